//! Memory that messages pass through: one turn buffer that every link reads into, slices of it that
//! travel through the core, and spares of everything, so that steady traffic allocates nothing.

use std::rc::Rc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use switchboard_core::Payload;
use switchboard_protocol::{FRAME_BYTES_MAX, PeerId};

/// Bytes read from one link in one turn at most.
pub(crate) const TURN_BYTES: usize = 256 << 10;

/// Bytes of a frame from which it is received into a buffer of its own, instead of being copied
/// together from the pieces that turns bring.
pub(crate) const LARGE_FRAME_BYTES: usize = 64 << 10;

/// Turn buffers that are remembered while slices of them are on their way. More than this many at
/// once are written out early, see [`Buffers::crowded`].
const TURNS_MAX: usize = 16;

/// Bytes of buffers for large frames that are kept for the next one.
const LARGE_KEPT_BYTES: usize = 32 << 20;

/// Spare vectors at the start, so that how many a busy turn needs at once is no matter of luck; those
/// kept at most; and the largest worth keeping.
const SPARES_MIN: usize = 8;
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Bytes that a vector begins with. Growing step by step, each spare would reach the size that a
/// busy turn needs only after a while, and allocate on the way.
const SPARE_BYTES: usize = 8 << 10;

/// A reference-counted piece of a receive buffer, or of bytes that the core wrote.
#[derive(Clone, Debug, Default)]
pub(crate) enum Slice {
    /// A part of a buffer.
    Of { buffer: Rc<Vec<u8>>, start: u32, len: u32 },
    /// Bytes on their own, in one piece of memory: what is small and kept for long, like a million
    /// messages in queues.
    Own(Rc<[u8]>),
    /// No bytes.
    #[default]
    Empty,
}

/// Bytes up to which what is kept is copied into one piece of memory.
const OWN_BYTES_MAX: usize = 4 << 10;

impl Slice {
    /// The bytes of `buffer` from `start` to `end`.
    pub(crate) fn new(buffer: &Rc<Vec<u8>>, start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= buffer.len());
        if start == end {
            return Self::Empty;
        }
        // Buffers are at most one frame long (256 MiB), so offsets fit.
        Self::Of { buffer: Rc::clone(buffer), start: start as u32, len: (end - start) as u32 }
    }

    /// Becomes another part of the same buffer; only for one that is a part of one.
    #[inline(always)]
    pub(crate) fn aim(&mut self, at: usize, bytes: usize) {
        let Self::Of { buffer, start, len } = self else { panic!("a slice of a buffer") };
        debug_assert!(at + bytes <= buffer.len());
        (*start, *len) = (at as u32, bytes as u32);
    }

    /// A part of this slice.
    pub(crate) fn part(&self, from: usize) -> Self {
        let len = self.len();
        self.cut(from.min(len), len)
    }

    /// Whether it holds on to a buffer more than twice its size.
    pub(crate) fn is_wasteful(&self) -> bool {
        match self {
            Self::Of { buffer, len, .. } => *len as usize * 2 < buffer.len(),
            Self::Own(_) | Self::Empty => false,
        }
    }

    /// The same bytes in memory of their own.
    pub(crate) fn copied(&self) -> Self {
        let bytes = self.bytes();
        if bytes.len() <= OWN_BYTES_MAX { Self::Own(Rc::from(bytes)) } else { Self::from(bytes.to_vec()) }
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self::new(&Rc::new(bytes), 0, len)
    }
}

/// Its length: what was in it is nobody's affair who looks at a snapshot of the broker.
impl Serialize for Slice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.len() as u32)
    }
}

/// As many zeros.
impl<'de> Deserialize<'de> for Slice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let len = u32::deserialize(deserializer)?;
        if FRAME_BYTES_MAX < len {
            return Err(D::Error::custom("a payload longer than any frame"));
        }
        Ok(Self::from(vec![0; len as usize]))
    }
}

impl Payload for Slice {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::Of { len, .. } => *len as usize,
            Self::Own(bytes) => bytes.len(),
            Self::Empty => 0,
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Of { buffer, start, len } => &buffer[*start as usize..][..*len as usize],
            Self::Own(bytes) => bytes,
            Self::Empty => &[],
        }
    }

    fn keep(self) -> Self {
        if self.is_wasteful() { self.copied() } else { self }
    }

    fn own(bytes: Vec<u8>) -> Self {
        Self::from(bytes)
    }

    fn cut(&self, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= self.len(), "a part is inside");
        match self {
            _ if start == end => Self::Empty,
            Self::Of { buffer, start: from, .. } => {
                Self::new(buffer, *from as usize + start, *from as usize + end)
            }
            // It is small.
            Self::Own(bytes) => Self::Own(Rc::from(&bytes[start..end])),
            Self::Empty => Self::Empty,
        }
    }
}

/// All buffers of one reactor.
#[derive(Debug)]
pub(crate) struct Buffers {
    turn: Rc<Vec<u8>>,
    /// Earlier turn buffers that slices still pointed into when they were put aside.
    earlier: Vec<Rc<Vec<u8>>>,
    /// Buffers of large frames, on their way or free.
    large: Vec<Rc<Vec<u8>>>,
    spares: Vec<Vec<u8>>,
    /// Links that have not taken all of a write, and how many bytes were left then: those that take
    /// nothing more for a turn are made to let go of buffers ([`crate::out_queue::OutQueue::trim`]).
    pub(crate) left_over: Vec<(PeerId, usize)>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            turn: Rc::new(vec![0; TURN_BYTES]),
            earlier: Vec::with_capacity(TURNS_MAX),
            large: Vec::new(),
            left_over: Vec::new(),
            spares: {
                let mut spares = Vec::with_capacity(SPARES_MAX);
                spares.resize_with(SPARES_MIN, || Vec::with_capacity(SPARE_BYTES));
                spares
            },
        }
    }

    /// The turn buffer, which nothing points into.
    pub(crate) fn turn_mut(&mut self) -> &mut [u8] {
        if Rc::get_mut(&mut self.turn).is_none() {
            let free = self.earlier.iter().position(|buffer| Rc::strong_count(buffer) == 1);
            let fresh = match free {
                Some(index) => self.earlier.swap_remove(index),
                None => Rc::new(vec![0; TURN_BYTES]),
            };
            let busy = std::mem::replace(&mut self.turn, fresh);
            if self.earlier.len() < TURNS_MAX {
                self.earlier.push(busy);
            }
        }
        Rc::get_mut(&mut self.turn).expect("a buffer that nothing points into was just chosen")
    }

    /// The turn buffer, to cut slices from.
    pub(crate) fn turn(&self) -> &Rc<Vec<u8>> {
        &self.turn
    }

    /// Whether so many turn buffers are pinned that it is time to write out what pins them.
    pub(crate) fn crowded(&self) -> bool {
        self.earlier.len() == TURNS_MAX && self.earlier.iter().all(|buffer| Rc::strong_count(buffer) > 1)
    }

    /// A buffer of at least `bytes`, for one large frame, which nothing else points into.
    pub(crate) fn take_large(&mut self, bytes: usize) -> Rc<Vec<u8>> {
        let fits = |buffer: &Rc<Vec<u8>>| {
            Rc::strong_count(buffer) == 1 && buffer.len() >= bytes && buffer.len() / 2 <= bytes
        };
        match self.large.iter().position(fits) {
            Some(index) => self.large.swap_remove(index),
            // Zeroed memory comes untouched from the system: it costs what is written to it.
            None => Rc::new(vec![0; bytes]),
        }
    }

    /// Remembers the buffer of a large frame, to use it again once the frame has left.
    pub(crate) fn remember_large(&mut self, buffer: &Rc<Vec<u8>>) {
        let mut kept = buffer.len();
        // The oldest are forgotten first; whoever still points into one keeps it alive.
        let first_kept = self.large.iter().rposition(|old| {
            kept += old.len();
            kept > LARGE_KEPT_BYTES
        });
        self.large.drain(..first_kept.map_or(0, |index| index + 1));
        if buffer.len() <= LARGE_KEPT_BYTES {
            self.large.push(Rc::clone(buffer));
        }
    }

    /// An empty vector, with memory for a few dozen small frames at least.
    pub(crate) fn take_spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_else(|| Vec::with_capacity(SPARE_BYTES))
    }

    /// Takes a vector back.
    pub(crate) fn give_spare(&mut self, mut spare: Vec<u8>) {
        if spare.capacity() > 0 && spare.capacity() <= SPARE_BYTES_MAX && self.spares.len() < SPARES_MAX {
            spare.clear();
            self.spares.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_buffer_is_used_again_as_soon_as_nothing_points_into_it() {
        let mut buffers = Buffers::new();
        let first = buffers.turn_mut().as_ptr();
        assert_eq!(buffers.turn_mut().as_ptr(), first);
        let slice = Slice::new(buffers.turn(), 0, 100);
        assert_ne!(buffers.turn_mut().as_ptr(), first);
        drop(slice);
        let pin = Slice::new(buffers.turn(), 0, 1);
        assert_eq!(buffers.turn_mut().as_ptr(), first);
        drop(pin);
    }

    #[test]
    fn crowding_is_noticed_and_ends() {
        let mut buffers = Buffers::new();
        let mut pins = Vec::new();
        for _ in 0..TURNS_MAX {
            assert!(!buffers.crowded());
            buffers.turn_mut();
            pins.push(Slice::new(buffers.turn(), 0, 1));
        }
        buffers.turn_mut();
        assert!(buffers.crowded());
        pins.pop();
        assert!(!buffers.crowded());
    }

    #[test]
    fn keeping_a_small_slice_lets_its_buffer_go() {
        let buffer = Rc::new(vec![7; 1000]);
        let small = Slice::new(&buffer, 10, 20).keep();
        let large = Slice::new(&buffer, 0, 600).keep();
        assert_eq!(small.bytes(), [7; 10]);
        assert_eq!(Rc::strong_count(&buffer), 2, "only the large one still points into it");
        assert_eq!(large.part(590).bytes(), [7; 10]);
        assert!(large.part(600).is_empty() && Slice::new(&buffer, 5, 5).is_empty());
    }

    #[test]
    fn buffers_of_large_frames_come_back_within_a_bound() {
        let mut buffers = Buffers::new();
        let buffer = buffers.take_large(1 << 20);
        let first = buffer.as_ptr();
        buffers.remember_large(&buffer);
        assert_ne!(buffers.take_large(1 << 20).as_ptr(), first, "it is still in use");
        drop(buffer);
        assert_eq!(buffers.take_large((1 << 20) - 5000).as_ptr(), first);
        for _ in 0..100 {
            buffers.remember_large(&Rc::new(vec![0; 1 << 20]));
        }
        assert!(buffers.large.len() <= LARGE_KEPT_BYTES >> 20);
    }
}
