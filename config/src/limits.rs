//! The keys of `[limits]` and `[limits.user.*]`: one for each field of the core's types.

use crate::reader::Unit;
use std::ops::RangeInclusive;
use std::time::Duration;
use switchboard_core::{Limits, UserLimits};

/// A key that sets one number of a `T`.
pub(crate) struct LimitKey<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) range: RangeInclusive<u64>,
    pub(crate) read: fn(&T) -> u64,
    pub(crate) write: fn(&mut T, u64),
}

/// A field that holds a number, whatever its type.
trait Number {
    /// The largest value, also one that TOML can write.
    const MOST: u64;
    fn read(&self) -> u64;
    fn write(&mut self, number: u64);
}

const MILLISECOND: u64 = 1_000_000;
/// Frame lengths end at 256 MiB; what stands around a payload needs less than 64 KiB.
const PAYLOAD_BYTES_MOST: u64 = switchboard_protocol::FRAME_BYTES_MAX as u64 - (64 << 10);

/// `field: Unit, least [..= most]`
macro_rules! keys {
    ($type:ty { $($field:ident: $unit:ident, $least:expr $(, $most:expr)?;)* }) => {
        &[$(LimitKey {
            name: stringify!($field),
            unit: Unit::$unit,
            range: $least..=keys!(@most $type, $field $(, $most)?),
            read: |limits: &$type| limits.$field.read(),
            write: |limits: &mut $type, number| limits.$field.write(number),
        }),*]
    };
    (@most $type:ty, $field:ident, $most:expr) => { $most };
    (@most $type:ty, $field:ident) => { most_of(|limits: &$type| &limits.$field) };
}

/// The keys of `[limits]`.
pub(crate) static LIMITS: &[LimitKey<Limits>] = keys!(Limits {
    connections_max: Count, 1;
    names_max: Count, 1;
    handles_max: Count, 1;
    calls_open_max: Count, 1;
    waiting_max: Count, 1;
    buffered_bytes_max: Bytes, 64 << 10;
    watches_max: Count, 0;
    payload_bytes_max: Bytes, 1 << 10, PAYLOAD_BYTES_MOST;
    send_bytes: Bytes, 1 << 10;
    link_bytes_low: Bytes, 4 << 10;
    link_bytes_high: Bytes, 4 << 10;
    link_bytes_max: Bytes, 64 << 10;
    link_bytes_reserved: Bytes, 64 << 10;
    unread_bytes_max: Bytes, 64 << 10;
    pulses_max: Count, 0;
    subscriptions_max: Count, 0;
    subscription_messages: Count, 1;
    subscription_bytes: Bytes, 1 << 10;
    subscribed_bytes_max: Bytes, 64 << 10;
    kept_bytes_max: Bytes, 0;
    queued_max: Count, 0;
    queued_bytes_max: Bytes, 0;
    log_bytes_max: Bytes, 1 << 20;
    segment_bytes: Bytes, 64 << 10;
    hello_timeout: Time, 10 * MILLISECOND;
    ageing_step: Time, MILLISECOND;
});

/// The keys of `[limits.user.NAME]`.
pub(crate) static USER_LIMITS: &[LimitKey<UserLimits>] = keys!(UserLimits {
    connections: Count, 0;
    connections_per_second: Count, 1;
    handles: Count, 1;
    names: Count, 0;
    calls_open: Count, 1;
    waiting: Count, 0;
    buffered_bytes: Bytes, 0;
    unread_bytes: Bytes, 0;
    watches: Count, 0;
    subscriptions: Count, 0;
    subscribed_bytes: Bytes, 0;
    queued_bytes: Bytes, 0;
});

const fn most_of<T, N: Number>(_: fn(&T) -> &N) -> u64 {
    N::MOST
}

impl Number for u32 {
    const MOST: u64 = u32::MAX as u64;
    fn read(&self) -> u64 {
        u64::from(*self)
    }
    fn write(&mut self, number: u64) {
        *self = Self::try_from(number).expect("a number within its key's range");
    }
}

impl Number for u64 {
    const MOST: u64 = i64::MAX as u64;
    fn read(&self) -> u64 {
        *self
    }
    fn write(&mut self, number: u64) {
        *self = number;
    }
}

impl Number for Duration {
    const MOST: u64 = 24 * 3600 * 1000 * MILLISECOND;
    fn read(&self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }
    fn write(&mut self, number: u64) {
        *self = Self::from_nanos(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field without a key makes this fail to compile; a key without a field, the table above.
    #[test]
    fn every_limit_has_a_key() {
        let Limits {
            connections_max: _,
            names_max: _,
            handles_max: _,
            calls_open_max: _,
            waiting_max: _,
            buffered_bytes_max: _,
            watches_max: _,
            payload_bytes_max: _,
            send_bytes: _,
            link_bytes_low: _,
            link_bytes_high: _,
            link_bytes_max: _,
            link_bytes_reserved: _,
            unread_bytes_max: _,
            pulses_max: _,
            subscriptions_max: _,
            subscription_messages: _,
            subscription_bytes: _,
            subscribed_bytes_max: _,
            kept_bytes_max: _,
            queued_max: _,
            queued_bytes_max: _,
            log_bytes_max: _,
            segment_bytes: _,
            hello_timeout: _,
            ageing_step: _,
            user_default: _,
            users: _,
        } = Limits::default();
        assert_eq!(LIMITS.len(), 26);
        let UserLimits {
            connections: _,
            connections_per_second: _,
            handles: _,
            names: _,
            calls_open: _,
            waiting: _,
            buffered_bytes: _,
            unread_bytes: _,
            watches: _,
            subscriptions: _,
            subscribed_bytes: _,
            queued_bytes: _,
        } = UserLimits::default();
        assert_eq!(USER_LIMITS.len(), 12);
    }

    #[test]
    fn every_default_lies_in_the_range_of_its_key_and_survives_being_written() {
        fn check<T: Default + Clone + PartialEq>(keys: &[LimitKey<T>]) {
            for key in keys {
                let default = T::default();
                let number = (key.read)(&default);
                assert!(key.range.contains(&number), "{} = {number}", key.name);
                let mut other = default.clone();
                (key.write)(&mut other, number - 1);
                assert_eq!((key.read)(&other), number - 1, "{}", key.name);
                assert!(other != default, "{}", key.name);
                (key.write)(&mut other, number);
                assert!(other == default, "{}", key.name);
            }
        }
        check(LIMITS);
        check(USER_LIMITS);
    }
}
