//! JSON from outside, and as the database keeps it: the same numbers, the same canonical text.

mod guard;

use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

pub use guard::{Refused, check};

use super::resource::Hash;

/// Longest plain form of a number, in digits; `1e400` has 401.
pub const MAX_NUMBER_DIGITS: usize = 1000;

/// Why JSON from outside is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It was not even read.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It has another shape.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),
}

/// Reads JSON that somebody else wrote: a request, a package, another environment's answer. The one way in.
///
/// # Errors
/// It is no JSON, not safe to read, or of another shape.
pub fn outside<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unread> {
    check(text)?;
    Ok(serde_json::from_slice(text)?)
}

/// Why a JSON value cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// `\u0000` in a string or a key: Postgres cannot hold it.
    #[error("must not contain the character U+0000")]
    Nul,
    /// A number whose plain form has more than [`MAX_NUMBER_DIGITS`] digits.
    #[error("holds a number of more than 1000 digits")]
    Number,
}

/// Brings a value to the form in which `jsonb` gives it back: numbers in plain notation, no NUL.
///
/// # Errors
/// Refuses what `jsonb` cannot hold.
pub fn normalise(value: &mut Value) -> Result<(), Unstorable> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => {
            if let Some(plain) = plain_number(number.as_str())? {
                *number = plain.parse::<Number>().map_err(|_| Unstorable::Number)?;
            }
            Ok(())
        }
        Value::String(text) => refuse_nul(text),
        Value::Array(items) => items.iter_mut().try_for_each(normalise),
        Value::Object(map) => map.iter_mut().try_for_each(|(key, item)| {
            refuse_nul(key)?;
            normalise(item)
        }),
    }
}

fn refuse_nul(text: &str) -> Result<(), Unstorable> {
    if text.contains('\0') { Err(Unstorable::Nul) } else { Ok(()) }
}

/// The plain form of a JSON number, as Postgres' `numeric` prints it; `None`: it already is.
fn plain_number(text: &str) -> Result<Option<String>, Unstorable> {
    if text.len() > MAX_NUMBER_DIGITS {
        return Err(Unstorable::Number);
    }
    let zero = || text.bytes().all(|c| matches!(c, b'-' | b'0' | b'.'));
    if !text.contains(['e', 'E']) {
        return Ok((text.starts_with('-') && zero()).then(|| text[1..].to_owned()));
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| Unstorable::Number)?;
    if exponent.unsigned_abs() > 2 * MAX_NUMBER_DIGITS as u64 {
        return Err(Unstorable::Number);
    }
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    let scale = (fraction.len() as i64 - exponent).max(0);
    if point.unsigned_abs() as usize > MAX_NUMBER_DIGITS || scale as usize > MAX_NUMBER_DIGITS {
        return Err(Unstorable::Number);
    }
    let digit = |at: i64| usize::try_from(at).ok().and_then(|at| digits.as_bytes().get(at)).map_or('0', |d| *d as char);
    let whole: String = (0..point.max(0)).map(digit).collect();
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    let fraction: String = (point..point + scale).map(digit).collect();
    let mut plain = String::with_capacity(whole.len() + fraction.len() + 2);
    if negative && digits.bytes().any(|d| d != b'0') {
        plain.push('-');
    }
    plain.push_str(whole);
    if scale > 0 {
        plain.push('.');
        plain.push_str(&fraction);
    }
    Ok(Some(plain))
}

/// The canonical text: keys sorted by bytes, no spaces, numbers as they are.
pub fn canonical(value: &Value) -> Vec<u8> {
    // Writing a Value into memory cannot fail: its keys are strings.
    serde_json::to_vec(value).unwrap_or_default()
}

/// The hash of the canonical text.
pub fn hash(value: &Value) -> Hash {
    Hash::of(&canonical(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str) -> String {
        let mut value: Value = serde_json::from_str(text).unwrap();
        normalise(&mut value).unwrap();
        value.to_string()
    }

    #[test]
    fn numbers_take_the_plain_form_of_numeric() {
        for (text, plain) in [
            ("1e2", "100"),
            ("1.50e1", "15.0"),
            ("1E-3", "0.001"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("-0e5", "0"),
            ("12.5e-1", "1.25"),
            ("1.0", "1.0"),
            ("0.1e1", "1"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(normalised(text), plain, "{text}");
        }
        assert_eq!(normalised("1e400").len(), 401);
    }

    #[test]
    fn canonical_text_sorts_keys_by_bytes_and_keeps_numbers() {
        assert_eq!(
            normalised(r#"{"b":1.0,"a":{"é":2,"z":9007199254740993},"B":null}"#),
            r#"{"B":null,"a":{"z":9007199254740993,"é":2},"b":1.0}"#
        );
    }

    #[test]
    fn huge_numbers_and_nul_are_refused() {
        let refuse = |text: &str| normalise(&mut serde_json::from_str(text).unwrap()).unwrap_err();
        assert_eq!(refuse("1e100000000"), Unstorable::Number);
        assert_eq!(refuse("1e-5000"), Unstorable::Number);
        assert_eq!(refuse("1e9223372036854775807"), Unstorable::Number);
        assert_eq!(refuse(r#"["a\u0000b"]"#), Unstorable::Nul);
        assert_eq!(refuse(r#"{"\u0000":1}"#), Unstorable::Nul);
    }
}
