//! What stands in the way of rolling an import back.

use crate::db::records::Record;
use crate::db::roll_back::{self, How, Touched};
use crate::db::{DbError, PgConnection};
use crate::wire::FieldProblem;

/// All that was touched since an import, in no transaction of its own.
pub async fn touched(connection: &mut PgConnection, record: &Record) -> Result<Vec<Touched>, DbError> {
    let mut found = roll_back::changed(connection, record.domain_id, record.id).await?;
    found.extend(roll_back::referring(connection, record.domain_id, record.id).await?);
    Ok(found)
}

/// One of these as people see it.
pub fn problem(found: &Touched) -> FieldProblem {
    let name = &found.name;
    let message = match found.how {
        How::Changed => format!("{name} was changed since the import."),
        How::Deleted => format!("{name} was deleted since the import."),
        How::Refers => format!("{name} was changed since the import and refers to what the import made."),
        How::TookName => format!("{name} has taken a name that would come back."),
        How::Cycle => format!("{name} would be its own subprocess again."),
    };
    FieldProblem { code: "touched_since".to_owned(), field: found.id.clone(), message }
}
