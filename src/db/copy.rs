//! Rows for `COPY … FROM STDIN (FORMAT binary)`: 1.6 times faster than text, and nothing to escape.

use sqlx::PgConnection;

use super::DbError;

/// How much is gathered before it is sent.
const SEND: usize = 256 * 1024;

/// Rows in binary COPY format, gathered to be sent to one table.
pub struct Rows {
    statement: String,
    columns: i16,
    buffer: Vec<u8>,
}

impl Rows {
    /// For the named columns of a table; names come from our own code alone.
    pub fn new(table: &str, columns: &[&str]) -> Self {
        let statement = format!("copy {table} ({}) from stdin (format binary)", columns.join(", "));
        let mut buffer = b"PGCOPY\n\xff\r\n\0".to_vec();
        buffer.extend([0; 8]);
        Self { statement, columns: columns.len() as i16, buffer }
    }

    /// Begins a row; exactly as many fields as columns must follow.
    pub fn row(&mut self) -> Row<'_> {
        self.buffer.extend(self.columns.to_be_bytes());
        Row(&mut self.buffer)
    }

    /// Appends the rows of another set for the same table.
    pub fn append(&mut self, other: Rows) {
        self.buffer.extend_from_slice(&other.buffer[19..]);
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.buffer.len() - 19
    }

    /// No row yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends the rows and empties the set.
    ///
    /// # Errors
    /// The database refuses a row.
    pub async fn send(&mut self, connection: &mut PgConnection) -> Result<(), DbError> {
        if self.is_empty() {
            return Ok(());
        }
        self.buffer.extend((-1i16).to_be_bytes());
        let mut copy = connection.copy_in_raw(&self.statement).await?;
        for piece in self.buffer.chunks(SEND) {
            copy.send(piece).await?;
        }
        copy.finish().await?;
        self.buffer.truncate(19);
        Ok(())
    }
}

/// One row in the making.
pub struct Row<'a>(&'a mut Vec<u8>);

impl Row<'_> {
    fn field(self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as i32).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn null(self) -> Self {
        self.0.extend((-1i32).to_be_bytes());
        self
    }

    /// `text`.
    pub fn text(self, value: &str) -> Self {
        self.field(value.as_bytes())
    }

    /// `text`, or null.
    pub fn maybe(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// `bytea`.
    pub fn bytes(self, value: &[u8]) -> Self {
        self.field(value)
    }

    /// `bytea`, or null.
    pub fn maybe_bytes(self, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.field(value),
            None => self.null(),
        }
    }

    /// `integer`.
    pub fn int(self, value: i32) -> Self {
        self.field(&value.to_be_bytes())
    }

    /// `smallint`.
    pub fn small(self, value: i16) -> Self {
        self.field(&value.to_be_bytes())
    }

    /// `bigint`.
    pub fn big(self, value: i64) -> Self {
        self.field(&value.to_be_bytes())
    }

    /// `bigint`, or null.
    pub fn maybe_big(self, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.field(&value.to_be_bytes()),
            None => self.null(),
        }
    }

    /// `boolean`.
    pub fn bool(self, value: bool) -> Self {
        self.field(&[u8::from(value)])
    }

    /// `jsonb`, from its text.
    pub fn json(self, text: &[u8]) -> Self {
        self.0.extend((text.len() as i32 + 1).to_be_bytes());
        self.0.push(1);
        self.0.extend_from_slice(text);
        self
    }
}
