//! Serde types as postcard, from whoever: bounded, and never a panic.

use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard_protocol::Outcome;

use crate::CallError;

pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(value)
}

pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

pub(crate) fn not_encoded(error: postcard::Error) -> CallError {
    CallError::new(Outcome::Invalid, format!("the request cannot be encoded: {error}"))
}

pub(crate) fn not_expected(error: postcard::Error) -> CallError {
    CallError::new(Outcome::Failed, format!("the reply is not what was expected: {error}"))
}
