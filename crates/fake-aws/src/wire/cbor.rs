//! JSON values as Smithy RPC v2 CBOR and back, with the SDK's own codec.
//!
//! CBOR marks timestamps and tells integers from floats; JSON does not. On the way in a timestamp becomes seconds
//! since the epoch. On the way out members of these names are timestamps, and a number is a float when it was
//! made from one.

use aws_smithy_cbor::data::Type;
use aws_smithy_cbor::decode::DeserializeError;
use aws_smithy_cbor::{Decoder, Encoder};
use serde_json::{Map, Number, Value};

/// Every timestamp member in the outputs of the CloudWatch operations that this crate answers.
const TIMESTAMPS: [&str; 6] = [
    "LastModified",
    "Timestamp",
    "Timestamps",
    "StateUpdatedTimestamp",
    "StateTransitionedTimestamp",
    "AlarmConfigurationUpdatedTimestamp",
];
/// Deeper input is refused: no operation nests this far, and recursion must end.
const DEPTH_MAX: usize = 32;

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder, value, false);
    encoder.into_writer()
}

fn write(encoder: &mut Encoder, value: &Value, is_timestamp: bool) {
    match value {
        Value::Null => drop(encoder.null()),
        Value::Bool(b) => drop(encoder.boolean(*b)),
        Value::Number(n) if is_timestamp => {
            let seconds = n.as_f64().unwrap_or_default();
            encoder.timestamp(&aws_smithy_types::DateTime::from_secs_f64(seconds));
        }
        Value::Number(n) => match n.as_i64() {
            Some(integer) => drop(encoder.long(integer)),
            None => drop(encoder.double(n.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(s) => drop(encoder.str(s)),
        Value::Array(items) => {
            encoder.array(items.len());
            items.iter().for_each(|item| write(encoder, item, is_timestamp));
        }
        Value::Object(members) => {
            encoder.map(members.len());
            for (name, member) in members {
                encoder.str(name);
                write(encoder, member, TIMESTAMPS.contains(&name.as_str()));
            }
        }
    }
}

/// An empty body is an operation without input.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, String> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let mut decoder = Decoder::new(bytes);
    let value = read(&mut decoder, 0).map_err(|error| error.to_string())?;
    match decoder.position() == bytes.len() {
        true => Ok(value),
        false => Err(format!("{} bytes follow the CBOR value", bytes.len() - decoder.position())),
    }
}

fn read(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, DeserializeError> {
    if depth > DEPTH_MAX {
        return Err(DeserializeError::custom("nested too deeply", decoder.position()));
    }
    Ok(match decoder.datatype()? {
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::Bool => Value::Bool(decoder.boolean()?),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
            decoder.long()?.into()
        }
        Type::F16 | Type::F32 | Type::F64 => float(decoder.double()?),
        Type::String | Type::StringIndef => Value::String(decoder.string()?),
        Type::Tag => float(decoder.timestamp()?.as_secs_f64()),
        Type::Array | Type::ArrayIndef => {
            let mut items = Vec::new();
            match decoder.list()? {
                Some(count) => {
                    for _ in 0..count {
                        items.push(read(decoder, depth + 1)?);
                    }
                }
                None => {
                    while decoder.datatype()? != Type::Break {
                        items.push(read(decoder, depth + 1)?);
                    }
                    decoder.skip()?;
                }
            }
            Value::Array(items)
        }
        Type::Map | Type::MapIndef => {
            let mut members = Map::new();
            match decoder.map()? {
                Some(count) => {
                    for _ in 0..count {
                        members.insert(decoder.string()?, read(decoder, depth + 1)?);
                    }
                }
                None => {
                    while decoder.datatype()? != Type::Break {
                        members.insert(decoder.string()?, read(decoder, depth + 1)?);
                    }
                    decoder.skip()?;
                }
            }
            Value::Object(members)
        }
        other => return Err(DeserializeError::custom(format!("unexpected type {other:?}"), decoder.position())),
    })
}

/// JSON has no NaN and no infinity; the text lets a handler refuse them as AWS does.
fn float(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_survive_the_way_out_and_in() {
        let value = json!({"Name": "ä", "N": 7, "F": 1.5, "L": [true, null, {"x": -3}], "LastModified": 1000.25});
        assert_eq!(decode(&encode(&value)), Ok(value));
    }

    #[test]
    fn trailing_bytes_and_bottomless_nesting_are_refused() {
        let mut bytes = encode(&json!({}));
        bytes.push(0);
        assert!(decode(&bytes).is_err());
        assert!(decode(&[0x81; 4096]).is_err());
    }
}
