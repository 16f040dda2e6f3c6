//! What one link has received and not yet handed in: cuts the byte stream into frames.
//!
//! Small frames are cut in place out of the turn buffer. Only what the end of a read tears apart is
//! kept, and a frame too large for that gets a buffer of its own that is received into directly. Where
//! one large frame came, another is expected: then only as much goes to the turn buffer as shows its
//! header. A link between frames holds nothing.

use std::rc::Rc;

use switchboard_protocol::{Extensions, FrameError, HEADER_BYTES, Header, Parser, padded};

use crate::buffer::{Buffers, LARGE_FRAME_BYTES, Slice, TURN_BYTES};

/// What is received to see the header of a large frame.
const HEAD_BYTES: usize = 1 << 10;

/// The state of one link's stream between two reads.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    held: Held,
    /// The last frame was large.
    expects_large: bool,
}

#[derive(Debug, Default)]
enum Held {
    /// The stream is between two frames.
    #[default]
    Nothing,
    /// Bytes that wait: the start of a frame, or, after a pause, whole frames.
    Bytes(Vec<u8>),
    /// A large frame, so far received.
    Large { buffer: Rc<Vec<u8>>, filled: usize, end: usize },
    /// So much of an oversized frame is still to be thrown away.
    Skip(usize),
}

/// A stretch of the turn buffer that is being cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    pub(crate) at: usize,
    pub(crate) end: usize,
}

impl Window {
    /// Where the tail of the frame begins that was cut last.
    #[inline(always)]
    pub(crate) fn tail_of(&self, header: &Header) -> usize {
        self.at - padded(header.len as usize) + HEADER_BYTES
    }
}

/// What comes next in a stream. Its header is where the caller wanted it.
#[derive(Debug)]
pub(crate) enum Cut {
    /// A whole frame, its header valid, extensions well formed. The window begins behind it.
    Frame,
    /// A frame with a payload over the limit; its bytes are thrown away as they come.
    Oversized,
    /// The start of a large frame of so many bytes: [`Incoming::begin_large`], if there is room.
    Large(usize),
    /// Nothing whole: read more.
    More,
}

impl Incoming {
    /// Bytes that wait here.
    pub(crate) fn held(&self) -> usize {
        match &self.held {
            Held::Bytes(bytes) => bytes.len(),
            Held::Nothing | Held::Large { .. } | Held::Skip(_) => 0,
        }
    }

    /// Moves what waits here to the front of the turn buffer and returns how much it is.
    pub(crate) fn unstash(&mut self, buffers: &mut Buffers) -> usize {
        let Held::Bytes(bytes) = std::mem::take(&mut self.held) else {
            panic!("only called with bytes held")
        };
        buffers.turn_mut()[..bytes.len()].copy_from_slice(&bytes);
        let count = bytes.len();
        buffers.give_spare(bytes);
        count
    }

    /// Keeps what is left of the window for later.
    pub(crate) fn stash(&mut self, mut window: Window, buffers: &mut Buffers) {
        self.skip(&mut window);
        if window.at == window.end {
            return;
        }
        assert!(
            matches!(self.held, Held::Nothing),
            "bytes are left in the window only where cutting stopped"
        );
        let mut bytes = buffers.take_spare();
        bytes.extend_from_slice(&buffers.turn()[window.at..window.end]);
        self.held = Held::Bytes(bytes);
    }

    /// How much to receive into the turn buffer at most.
    pub(crate) fn turn_room(&self) -> usize {
        if self.expects_large { HEAD_BYTES } else { TURN_BYTES }
    }

    /// Where the next bytes of a large frame go, if one is being received.
    pub(crate) fn large_room(&mut self) -> Option<&mut [u8]> {
        let Held::Large { buffer, filled, end } = &mut self.held else { return None };
        let buffer = Rc::get_mut(buffer).expect("nobody points into a frame before it is whole");
        Some(&mut buffer[*filled..*end])
    }

    /// `bytes` more of the large frame came. Gives the frame out when it is whole.
    pub(crate) fn large_received(
        &mut self,
        bytes: usize,
        header: &mut Header,
        buffers: &mut Buffers,
    ) -> Result<Option<Slice>, FrameError> {
        let Held::Large { buffer, filled, end } = &mut self.held else {
            panic!("a large frame is being received")
        };
        *filled += bytes;
        assert!(Parser::read(&buffer[..*filled], header)?, "a large frame begins with its header");
        let extensions_end = HEADER_BYTES + usize::from(header.ext_len);
        // Just become whole: it is checked once, as early as in any other way of receiving.
        if (extensions_end..extensions_end + bytes).contains(filled) {
            check_extensions(&buffer[HEADER_BYTES..extensions_end])?;
        }
        if *filled < *end {
            return Ok(None);
        }
        let slice = Slice::new(buffer, HEADER_BYTES, header.len as usize);
        buffers.remember_large(buffer);
        self.held = Held::Nothing;
        self.expects_large = true;
        Ok(Some(slice))
    }

    /// Gives the large frame of `bytes` at the start of the window a buffer of its own.
    pub(crate) fn begin_large(&mut self, bytes: usize, window: &mut Window, buffers: &mut Buffers) {
        assert!(matches!(self.held, Held::Nothing));
        let mut buffer = buffers.take_large(bytes);
        let filled = window.end - window.at;
        let fresh = Rc::get_mut(&mut buffer).expect("a free buffer");
        fresh[..filled].copy_from_slice(&buffers.turn()[window.at..window.end]);
        window.at = window.end;
        self.held = Held::Large { buffer, filled, end: bytes };
    }

    /// Throws away what belongs to an oversized frame.
    fn skip(&mut self, window: &mut Window) {
        let Held::Skip(left) = &mut self.held else { return };
        let skipped = (*left).min(window.end - window.at);
        window.at += skipped;
        *left -= skipped;
        if *left == 0 {
            self.held = Held::Nothing;
        }
    }

    /// Cuts what comes next out of the window, its header into `header`.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        turn: &Rc<Vec<u8>>,
        window: &mut Window,
        header: &mut Header,
        payload_bytes_max: usize,
    ) -> Result<Cut, FrameError> {
        self.skip(window);
        let bytes = &turn[window.at..window.end];
        if !Parser::read(bytes, header)? {
            return Ok(Cut::More);
        }
        let whole = padded(header.len as usize);
        if header.payload_len() > payload_bytes_max {
            self.held = Held::Skip(whole);
            self.skip(window);
            return Ok(Cut::Oversized);
        }
        let extensions_end = HEADER_BYTES + usize::from(header.ext_len);
        // As soon as the area is there, so that a bad one shows however the stream was split.
        if bytes.len() >= extensions_end {
            check_extensions(&bytes[HEADER_BYTES..extensions_end])?;
        }
        if bytes.len() < whole {
            return Ok(if whole > LARGE_FRAME_BYTES { Cut::Large(whole) } else { Cut::More });
        }
        window.at += whole;
        self.expects_large = whole > LARGE_FRAME_BYTES;
        Ok(Cut::Frame)
    }
}

#[inline]
fn check_extensions(area: &[u8]) -> Result<(), FrameError> {
    if area.is_empty() || Extensions::parse(area).is_some() { Ok(()) } else { Err(FrameError::Extension) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_core::Payload;
    use switchboard_protocol::{Decoder, Kind, write_frame};

    const PAYLOAD_MAX: usize = 200_000;

    /// A stream of frames of all sizes that matter, some over the limit, with what a plain decoder
    /// makes of it.
    fn stream(seed: u64) -> (Vec<u8>, Vec<(u64, usize)>) {
        let mut dice = Dice(seed);
        let (mut bytes, mut want) = (Vec::new(), Vec::new());
        for call in 0..20 {
            let len = match dice.below(6) {
                0 => 0,
                1 | 2 => dice.below(200),
                3 => dice.below(20_000),
                4 => LARGE_FRAME_BYTES - 200 + dice.below(400),
                _ => PAYLOAD_MAX - 2 + dice.below(4),
            };
            let extensions = if dice.below(2) == 0 { vec![0; 16 * dice.below(4)] } else { Vec::new() };
            let header = Header { call, ..Header::new(Kind::Call) };
            write_frame(&mut bytes, header, &extensions, &[], &vec![call as u8; len]);
            want.push((call, if len > PAYLOAD_MAX { usize::MAX } else { len }));
        }
        (bytes, want)
    }

    /// Cuts `bytes` as the reactor does, with reads of random length and pauses in between.
    fn cut(bytes: &[u8], seed: u64) -> Result<Vec<(u64, usize)>, FrameError> {
        let mut dice = Dice(seed);
        let (mut incoming, mut buffers, mut got) = (Incoming::default(), Buffers::new(), Vec::new());
        let mut rest = bytes;
        let mut header = Header::new(Kind::Goodbye);
        let mut deliver = |header: &Header, slice: Option<Slice>| {
            let payload = slice.map(|slice| slice.part(usize::from(header.ext_len)));
            let is_right = |slice: &Slice| slice.bytes().iter().all(|&byte| byte == header.call as u8);
            assert!(payload.as_ref().is_none_or(is_right));
            got.push((header.call, payload.map_or(usize::MAX, |payload| payload.len())));
        };
        while !rest.is_empty() || incoming.held() > 0 {
            let most = [3, 100, 5_000, 150_000][dice.below(4)];
            let count = (1 + dice.below(most)).min(rest.len());
            if let Some(room) = incoming.large_room() {
                let count = count.min(room.len());
                room[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                if let Some(slice) = incoming.large_received(count, &mut header, &mut buffers)? {
                    deliver(&header, Some(slice));
                }
                continue;
            }
            let held = if incoming.held() > 0 { incoming.unstash(&mut buffers) } else { 0 };
            let count = if held > TURN_BYTES / 2 { 0 } else { count };
            buffers.turn_mut()[held..held + count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            let mut window = Window { at: 0, end: held + count };
            let mut budget = 1 + dice.below(30);
            loop {
                budget -= 1;
                if budget == 0 {
                    break;
                }
                match incoming.next(buffers.turn(), &mut window, &mut header, PAYLOAD_MAX)? {
                    Cut::Frame => {
                        let start = window.tail_of(&header);
                        let slice = Slice::new(buffers.turn(), start, start + header.tail_len());
                        deliver(&header, Some(slice));
                    }
                    Cut::Oversized => deliver(&header, None),
                    Cut::Large(bytes) => break incoming.begin_large(bytes, &mut window, &mut buffers),
                    Cut::More => break,
                }
            }
            if budget > 0 && rest.is_empty() {
                break;
            }
            incoming.stash(window, &mut buffers);
        }
        Ok(got)
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_frames() {
        for seed in 1..60 {
            let (bytes, want) = stream(seed);
            assert_eq!(cut(&bytes, seed).expect("well formed"), want, "seed {seed}");
        }
    }

    #[test]
    fn a_broken_extension_area_shows_however_the_stream_is_split() {
        for (seed, len) in (1..40).zip([10, 1000, LARGE_FRAME_BYTES + 10].into_iter().cycle()) {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, Header::new(Kind::Call), &[0; 2048], &[], &vec![0; len]);
            bytes[HEADER_BYTES + 2047] = 1;
            assert_eq!(cut(&bytes, seed), Err(FrameError::Extension), "seed {seed}");
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert_eq!(decoder.next(), Err(FrameError::Extension));
        }
    }

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) as usize) % n
        }
    }
}
