//! CSV (RFC 4180) that no spreadsheet takes for a formula.

use std::io;

use ::csv::{Terminator, WriterBuilder};

/// Lines of some cells.
///
/// # Errors
/// Never for lines of as many cells each.
pub(in crate::api) fn lines<L>(lines: impl IntoIterator<Item = L>) -> io::Result<Vec<u8>>
where
    L: IntoIterator<Item: Into<String>>,
{
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    for line in lines {
        writer.write_record(line.into_iter().map(|cell| disarmed(cell.into())))?;
    }
    writer.into_inner().map_err(|error| error.into_error())
}

/// What a spreadsheet would compute gets an apostrophe before it.
fn disarmed(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        let line = |cells: &[&str]| String::from_utf8(super::lines([cells.iter().copied()]).unwrap()).unwrap();
        assert_eq!(line(&["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(line(&["a,b", "say \"no\"", "1\n2"]), "\"a,b\",\"say \"\"no\"\"\",\"1\n2\"\r\n");
        assert_eq!(line(&["=1+1", "+1", "-1", "@x", "\tx"]), "'=1+1,'+1,'-1,'@x,'\tx\r\n");
        assert_eq!(line(&["=a,\"b\""]), "\"'=a,\"\"b\"\"\"\r\n");
    }
}
