//! JSON from outside, looked at before anything is built of it. Nothing recurses here.

use jiter::{Jiter, JiterError, Peek};

/// The deepest nesting.
pub const MAX_DEPTH: usize = 128;
/// A key that begins so is a word of the parser itself: it would read the value as JSON once more, without a limit of
/// depth, or take it for a number.
const RESERVED: &str = "$serde_json::private::";

/// Whatever its size, a text may weigh this much, and as much again for each 8 bytes of it: a weight of one is about
/// 50 bytes in memory.
const FREE_WEIGHT: usize = 512 * 1024;
const BYTES_PER_WEIGHT: usize = 8;
/// A value by itself; an array has room for four; a map begins with a node for eleven members.
const VALUE: usize = 1;
const ARRAY: usize = 4;
const OBJECT: usize = 12;

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(String),
    /// It is nested too deep.
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    Deep,
    /// A word of the parser is a key.
    #[error("it holds a key that begins {RESERVED}")]
    Reserved,
    /// In memory it would be many times its size.
    #[error("it holds more values than a text of its size may")]
    Many,
}

/// Where the walk stands.
#[derive(Clone, Copy)]
enum Inside {
    Array,
    Object,
}

/// Refuses what cannot be read safely.
///
/// # Errors
/// Why.
pub fn check(text: &[u8]) -> Result<(), Refused> {
    let mut walk =
        Walk { reader: Jiter::new(text), inside: Vec::new(), left: FREE_WEIGHT + text.len() / BYTES_PER_WEIGHT };
    let mut next = Some(walk.reader.peek().map_err(|error| walk.syntax(&error))?);
    loop {
        next = match next {
            Some(value) => walk.value(value)?,
            None if walk.inside.pop().is_none() || walk.inside.is_empty() => break,
            None => walk.step()?,
        };
        if next.is_none() && walk.inside.is_empty() {
            break;
        }
    }
    walk.reader.finish().map_err(|error| walk.syntax(&error))
}

struct Walk<'a> {
    reader: Jiter<'a>,
    inside: Vec<Inside>,
    left: usize,
}

impl Walk<'_> {
    /// Passes a value, or enters it; gives what comes next where it stands then, if anything does.
    fn value(&mut self, value: Peek) -> Result<Option<Peek>, Refused> {
        match value {
            Peek::Array => {
                self.enter(Inside::Array, ARRAY)?;
                let first = self.reader.known_array();
                return first.map_err(|error| self.syntax(&error));
            }
            Peek::Object => {
                self.enter(Inside::Object, OBJECT)?;
                let first = self.reader.known_object().map(|key| key.map(is_reserved));
                return self.member(first);
            }
            Peek::String => self.reader.known_str().map(|_| ()),
            Peek::Null => self.reader.known_null(),
            Peek::True | Peek::False => self.reader.known_bool(value).map(|_| ()),
            _ => self.reader.known_number_bytes(value).map(|_| ()),
        }
        .map_err(|error| self.syntax(&error))?;
        self.weigh(VALUE)?;
        self.step()
    }

    fn step(&mut self) -> Result<Option<Peek>, Refused> {
        match self.inside.last() {
            None => Ok(None),
            Some(Inside::Array) => self.reader.array_step().map_err(|error| self.syntax(&error)),
            Some(Inside::Object) => {
                let key = self.reader.next_key().map(|key| key.map(is_reserved));
                self.member(key)
            }
        }
    }

    /// The value of a key, which is reserved or not.
    fn member(&mut self, key: Result<Option<bool>, JiterError>) -> Result<Option<Peek>, Refused> {
        match key.map_err(|error| self.syntax(&error))? {
            None => Ok(None),
            Some(true) => Err(Refused::Reserved),
            Some(false) => self.reader.peek().map(Some).map_err(|error| self.syntax(&error)),
        }
    }

    fn enter(&mut self, inside: Inside, weight: usize) -> Result<(), Refused> {
        if self.inside.len() == MAX_DEPTH {
            return Err(Refused::Deep);
        }
        self.inside.push(inside);
        self.weigh(weight)
    }

    fn weigh(&mut self, weight: usize) -> Result<(), Refused> {
        self.left = self.left.checked_sub(weight).ok_or(Refused::Many)?;
        Ok(())
    }

    fn syntax(&self, error: &JiterError) -> Refused {
        Refused::Syntax(format!("{} at {}", error.error_type, self.reader.error_position(error.index)))
    }
}

fn is_reserved(key: &str) -> bool {
    key.starts_with(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_would_take_for_its_own_is_refused_in_any_spelling() {
        for key in
            ["$serde_json::private::RawValue", r"\u0024serde_json::private::Number", r"$serde\u005fjson::private::x"]
        {
            let text = format!(r#"[{{"a":[1,{{"b":2,"{key}":"1"}}]}}]"#);
            assert!(matches!(check(text.as_bytes()), Err(Refused::Reserved)), "{text}");
        }
        assert!(check(br#"{"a":"$serde_json::private::RawValue"}"#).is_ok());
    }

    #[test]
    fn it_agrees_with_the_parser_on_what_json_is() {
        let texts = [
            "{}",
            "[]",
            "7",
            "-0",
            "1e400",
            " [ ] ",
            "{\"a\" :1 , \"b\": [ ] }",
            "\"a\"",
            "[[],{},[{}]]",
            "{\"a\":{}}",
            "[",
            "{\"a\"",
            "",
            "nul",
            "{1:2}",
            "[1,]",
            "{\"a\":1,}",
            "[1 2]",
            "\"\\ud800\"",
            "\u{feff}{}",
            "{}x",
            "NaN",
            "01",
            "1.",
            "\"\t\"",
            "[1}",
            "{\"a\":1]",
            "\"\\x\"",
            "{\"a\":1}{}",
            "]",
            "[]]",
        ];
        for text in texts {
            let wanted = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(check(text.as_bytes()).is_ok(), wanted, "{text:?}");
        }
        assert!(matches!(check(b"\"\xff\""), Err(Refused::Syntax(_))));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(matches!(check(nested(MAX_DEPTH + 1).as_bytes()), Err(Refused::Deep)));
        assert!(matches!(check("[".repeat(1_000_000).as_bytes()), Err(Refused::Deep)));
        let zeros = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(check(zeros(500_000).as_bytes()).is_ok());
        assert!(matches!(check(zeros(8_000_000).as_bytes()), Err(Refused::Many)));
        let objects = format!("[{}{{}}]", "{\"a\":{}},".repeat(100_000));
        assert!(matches!(check(objects.as_bytes()), Err(Refused::Many)));
    }
}
