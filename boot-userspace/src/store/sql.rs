//! What the store asks of a database. Statements are in the SQL that SQLite and PostgreSQL share, and are written once; a
//! database takes their values and gives rows.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, SqliteConnection, TypeInfo as _, ValueRef as _};

/// How many rows one statement has: SQLite takes 32,766 values, and PostgreSQL twice as many.
pub(super) const ROWS_PER_STATEMENT: usize = 500;

/// What a statement is given in the place of a `?`.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    /// A text's NULL.
    Nothing,
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Nothing, Self::Text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// What a row has in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Text(String),
    Number(i64),
    Nothing,
    /// Something else.
    Unreadable {
        /// What is wrong with it.
        why: String,
        /// What can be read of it.
        text: String,
    },
}

impl Field {
    /// A text, if it is one or was one.
    pub(super) fn remains(&self) -> Option<&str> {
        if let Self::Text(text) | Self::Unreadable { text, .. } = self { Some(text) } else { None }
    }

    /// A text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A number, if it is one.
    pub(super) fn number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// The fields of a row, in the order in which they were asked for.
pub(super) type Row = Vec<Field>;

/// A statement that is being written, with its values. SQLite takes a place without a number for the next value: to look
/// for the names of 4,000 places costs more than all else that it does with 500 rows.
#[derive(Debug, Default)]
pub(super) struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    /// Begins with this text.
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Goes on with this text.
    pub(super) fn then(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Goes on with a value.
    pub(super) fn value(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self.text.push('?');
        self
    }

    /// Goes on with values in parentheses.
    pub(super) fn list<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.text.push('(');
        for (number, value) in values.into_iter().enumerate() {
            let separated = if number == 0 { self } else { self.then(", ") };
            self = separated.value(value);
        }
        self.then(")")
    }

    /// Goes on with the rows of an INSERT.
    pub(super) fn rows(mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        for (number, row) in rows.into_iter().enumerate() {
            let separated = self.then(if number == 0 { " VALUES " } else { ", " });
            self = separated.list(row);
        }
        self
    }

    /// Has it executed; gives the rows that it asks for.
    pub(super) async fn run(self, connection: &mut impl Sql) -> sqlx::Result<Vec<Row>> {
        connection.run(self.text, self.values).await
    }
}

/// A connection to a database, in a transaction or not.
pub(super) trait Sql: Send {
    /// The word for an INSERT that removes whatever is in the way, if there is one.
    const REPLACE: Option<&str> = None;

    /// Executes a statement; gives the rows that it asks for.
    fn run(
        &mut self,
        statement: String,
        values: Vec<Value>,
    ) -> impl Future<Output = sqlx::Result<Vec<Row>>> + Send;
}

impl Sql for SqliteConnection {
    const REPLACE: Option<&str> = Some("INSERT OR REPLACE");

    async fn run(&mut self, statement: String, values: Vec<Value>) -> sqlx::Result<Vec<Row>> {
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
                Value::Nothing => query.bind(None::<String>),
            };
        }
        Ok(query.fetch_all(self).await?.iter().map(of_sqlite).collect())
    }
}

fn of_sqlite(row: &SqliteRow) -> Row {
    let field = |at| {
        let value = row.try_get_raw(at)?;
        Ok(match (value.is_null(), value.type_info().name()) {
            (true, _) => Field::Nothing,
            (false, "INTEGER") => Field::Number(row.try_get(at)?),
            _ => Field::Text(row.try_get(at)?),
        })
    };
    // One bit makes a text a row of bytes.
    let bytes = |at: usize| row.try_get_unchecked::<Vec<u8>, _>(at).unwrap_or_default();
    (0..row.len()).map(|at| field(at).unwrap_or_else(|error| unreadable(error, &bytes(at)))).collect()
}

/// The places of values as PostgreSQL has them: `$1`, `$2` and so on.
fn numbered(statement: &str) -> String {
    let mut parts = statement.split('?');
    let first = parts.next().unwrap_or_default().to_owned();
    (1..).zip(parts).fold(first, |text, (number, part)| text + "$" + &number.to_string() + part)
}

impl Sql for PgConnection {
    async fn run(&mut self, statement: String, values: Vec<Value>) -> sqlx::Result<Vec<Row>> {
        let mut query = sqlx::query(AssertSqlSafe(numbered(&statement)));
        for value in values {
            query = match value {
                // PostgreSQL's texts have no zero, and a client may call itself anything.
                Value::Text(text) if text.contains('\0') => query.bind(text.replace('\0', "")),
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
                Value::Nothing => query.bind(None::<String>),
            };
        }
        Ok(query.fetch_all(self).await?.iter().map(of_postgres).collect())
    }
}

fn of_postgres(row: &PgRow) -> Row {
    let field = |at| {
        let value = row.try_get_raw(at)?;
        Ok(match (value.is_null(), value.type_info().name()) {
            (true, _) => Field::Nothing,
            (false, "INT8") => Field::Number(row.try_get(at)?),
            _ => Field::Text(row.try_get(at)?),
        })
    };
    (0..row.len()).map(|at| field(at).unwrap_or_else(|error| unreadable(error, &[]))).collect()
}

fn unreadable(error: sqlx::Error, bytes: &[u8]) -> Field {
    Field::Unreadable { why: error.to_string(), text: String::from_utf8_lossy(bytes).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_places_that_each_database_knows() {
        let insert = Statement::new("INSERT INTO leases (a, b)");
        let insert = insert.rows([vec![1.into(), 2.into()], vec![3.into(), 4.into()]]);
        assert_eq!(insert.text, "INSERT INTO leases (a, b) VALUES (?, ?), (?, ?)");
        assert_eq!(numbered(&insert.text), "INSERT INTO leases (a, b) VALUES ($1, $2), ($3, $4)");
        assert_eq!((numbered("SELECT 1"), numbered("a = ?")), ("SELECT 1".to_owned(), "a = $1".to_owned()));
    }
}
