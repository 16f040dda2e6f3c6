//! Serde types as postcard, from whoever: bounded, and never a panic.
//!
//! Writing is postcard's. Reading is our own, of the same format (SPEC 7.1), because postcard's reader is
//! not bounded: five bytes for a `Vec<()>` keep it busy for a minute, and a recursive type overflows the
//! stack. Here nesting is limited to [`DEPTH_MAX`], and elements to one per byte and [`ELEMENTS_FREE`]
//! more.

use std::fmt;

use serde::Serialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use switchboard_protocol::Outcome;

use crate::CallError;

/// How deep a value may nest.
const DEPTH_MAX: u32 = 128;

/// Elements of sequences and maps beyond one per byte: those of types that take no bytes.
const ELEMENTS_FREE: usize = 4096;

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// They end too early.
    End,
    /// Some are left over.
    TooLong,
    /// A number does not fit its type, a flag is neither 0 nor 1, a text is not UTF-8.
    Value,
    /// Deeper than [`DEPTH_MAX`].
    Depth,
    /// More elements than bytes.
    Elements,
    /// The type says so.
    Custom(String),
    /// A type that can only be read from a format that describes itself.
    Undescribed,
}

pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(value)
}

pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader { rest: bytes, depth: DEPTH_MAX, elements: bytes.len() + ELEMENTS_FREE };
    let value = T::deserialize(&mut reader)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(DecodeError::TooLong) }
}

pub(crate) fn not_encoded(error: postcard::Error) -> CallError {
    CallError::new(Outcome::Invalid, format!("the request cannot be encoded: {error}"))
}

pub(crate) fn not_expected(error: DecodeError) -> CallError {
    CallError::new(Outcome::Failed, format!("the reply is not what was expected: {error}"))
}

struct Reader<'de> {
    rest: &'de [u8],
    depth: u32,
    elements: usize,
}

/// The elements of something whose number is known.
struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

impl<'de> Reader<'de> {
    fn take(&mut self, count: usize) -> Result<&'de [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::End)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Seven bits a byte, least first (SPEC 7.1).
    fn varint(&mut self, bits: u32) -> Result<u128> {
        let mut value = 0u128;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            let shifted = part << shift;
            if shifted >> shift != part || (bits < 128 && shifted >> bits != 0) {
                return Err(DecodeError::Value);
            }
            value |= shifted;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Value)
    }

    /// Signed numbers alternate: 0, -1, 1, -2 …
    fn zigzag(&mut self, bits: u32) -> Result<i128> {
        let value = self.varint(bits)?;
        Ok((value >> 1) as i128 ^ -((value & 1) as i128))
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(self.varint(usize::BITS)?).map_err(|_| DecodeError::Value)
    }

    fn text(&mut self) -> Result<&'de str> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Value)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Value),
        }
    }

    /// The number of elements that follow.
    fn count(&mut self) -> Result<usize> {
        let count = self.length()?;
        self.elements = self.elements.checked_sub(count).ok_or(DecodeError::Elements)?;
        Ok(count)
    }

    /// One level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth = self.depth.checked_sub(1).ok_or(DecodeError::Depth)?;
        let value = read(self)?;
        self.depth += 1;
        Ok(value)
    }

    fn elements<V: Visitor<'de>>(&mut self, left: usize, visitor: V) -> Result<V::Value> {
        self.nested(|reader| visitor.visit_seq(Elements { reader, left }))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $read:ident $bits:literal $type:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            visitor.$visit(<$type>::try_from(self.$read($bits)?).map_err(|_| DecodeError::Value)?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_u16 visit_u16 varint 16 u16;
        deserialize_u32 visit_u32 varint 32 u32;
        deserialize_u64 visit_u64 varint 64 u64;
        deserialize_u128 visit_u128 varint 128 u128;
        deserialize_i16 visit_i16 zigzag 16 i16;
        deserialize_i32 visit_i32 zigzag 32 i32;
        deserialize_i64 visit_i64 zigzag 64 i64;
        deserialize_i128 visit_i128 zigzag 128 i128;
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_u8(self.byte()?)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_i8(self.byte()? as i8)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bool(self.flag()?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f32(f32::from_le_bytes(self.array()?))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f64(f64::from_le_bytes(self.array()?))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let mut characters = self.text()?.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => visitor.visit_char(character),
            _ => Err(DecodeError::Value),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let length = self.length()?;
        visitor.visit_borrowed_bytes(self.take(length)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.flag()? { self.nested(|reader| visitor.visit_some(reader)) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.nested(|reader| visitor.visit_newtype_struct(reader))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let count = self.count()?;
        self.elements(count, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.elements(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.elements(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let left = self.count()?;
        self.nested(|reader| visitor.visit_map(Elements { reader, left }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.elements(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.nested(|reader| visitor.visit_enum(reader))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(DecodeError::Undescribed)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(DecodeError::Undescribed)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(DecodeError::Undescribed)
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // At most as many as there are bytes, whatever was claimed.
        Some(self.left.min(self.reader.rest.len()))
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reader.rest.len()))
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let variant = u32::try_from(self.varint(32)?).map_err(|_| DecodeError::Value)?;
        let variant: de::value::U32Deserializer<DecodeError> = variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.elements(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.elements(fields.len(), visitor)
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::End => "it ends too early",
            Self::TooLong => "bytes are left over",
            Self::Value => "a number, flag or text is out of range",
            Self::Depth => "it nests deeper than 128 levels",
            Self::Elements => "it claims more elements than it has bytes",
            Self::Custom(message) => message,
            Self::Undescribed => "the type can only be read from a format that describes itself",
        })
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Line(i32, i64),
        Named { name: String, of: Option<Box<Shape>> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        small: (u8, i8, bool, char, ()),
        numbers: (u16, u32, u64, u128, i16, i32, i64, i128, f32),
        text: String,
        bytes: Vec<u8>,
        map: BTreeMap<String, Vec<Shape>>,
        units: Vec<()>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Chain(Option<Box<Chain>>);

    fn everything() -> Everything {
        let named = Shape::Named { name: "n".into(), of: Some(Box::new(Shape::Line(-5, i64::MIN))) };
        Everything {
            small: (255, -128, true, 'ß', ()),
            numbers: (u16::MAX, u32::MAX, u64::MAX, u128::MAX, i16::MIN, i32::MIN, i64::MIN, i128::MIN, 0.5),
            text: "täxt".into(),
            bytes: (0..200).collect(),
            map: [("a".to_owned(), vec![Shape::Point, Shape::Circle(1.5), named])].into(),
            units: vec![(); 100],
        }
    }

    #[test]
    fn what_postcard_writes_reads_back() {
        let value = everything();
        let bytes = to_vec(&value).expect("encodes");
        assert_eq!(from_slice::<Everything>(&bytes), Ok(value.clone()));
        assert_eq!(postcard::from_bytes::<Everything>(&bytes), Ok(value));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_an_answer() {
        let bytes = to_vec(&everything()).expect("encodes");
        for end in 0..bytes.len() {
            assert!(from_slice::<Everything>(&bytes[..end]).is_err(), "{end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            // Any answer will do, and where it is one, it is also postcard's.
            if let Ok(value) = from_slice::<Everything>(&wrong) {
                // In words, because NaN is not itself.
                let theirs = postcard::from_bytes::<Everything>(&wrong);
                assert_eq!(format!("{theirs:?}"), format!("Ok({value:?})"), "{bit}");
            }
        }
        assert_eq!(from_slice::<u8>(&[1, 2]), Err(DecodeError::TooLong));
    }

    #[test]
    fn claims_cost_nothing() {
        // Five bytes that say "four thousand million units".
        assert_eq!(from_slice::<Vec<()>>(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DecodeError::Elements));
        assert_eq!(from_slice::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DecodeError::Elements));
        assert_eq!(from_slice::<String>(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(DecodeError::End));
    }

    #[test]
    fn depth_is_limited_and_well_before_the_stack_is() {
        assert!(from_slice::<Chain>(&[1, 1, 1, 0]).is_ok());
        assert_eq!(from_slice::<Chain>(&[1; 100_000]), Err(DecodeError::Depth));
    }
}
