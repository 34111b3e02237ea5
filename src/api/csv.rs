//! CSV (RFC 4180) that no spreadsheet takes for a formula.

/// A line of some cells.
pub(super) fn line<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<String> = cells.iter().map(|text| cell(text.as_ref())).collect();
    cells.join(",") + "\r\n"
}

/// What a spreadsheet would compute gets an apostrophe before it; what would end a cell is quoted.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        assert_eq!(line(&["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(line(&["a,b", "say \"no\"", "1\n2"]), "\"a,b\",\"say \"\"no\"\"\",\"1\n2\"\r\n");
        assert_eq!(line(&["=1+1", "+1", "-1", "@x", "\tx"]), "'=1+1,'+1,'-1,'@x,'\tx\r\n");
        assert_eq!(line(&["=a,\"b\""]), "\"'=a,\"\"b\"\"\"\r\n");
    }
}
