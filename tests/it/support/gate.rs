//! Holds a server's work at a known statement: whoever writes to a table waits until the gate opens.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

/// A shut gate; dropping it opens it.
pub struct Gate {
    connection: PgConnection,
    table: &'static str,
}

impl Gate {
    /// Nobody writes to a table from now on; reading goes on.
    pub async fn shut(database: &str, table: &'static str) -> Self {
        Self::locked(database, table, "share").await
    }

    /// Nobody reads a table from now on either.
    pub async fn shut_to_all(database: &str, table: &'static str) -> Self {
        Self::locked(database, table, "access exclusive").await
    }

    async fn locked(database: &str, table: &'static str, mode: &str) -> Self {
        let mut connection = PgConnection::connect(database).await.unwrap();
        let statement = format!("begin; lock table {table} in {mode} mode");
        sqlx::raw_sql(&statement).execute(&mut connection).await.unwrap();
        Self { connection, table }
    }

    /// Waits until somebody stands at it.
    pub async fn reached(&mut self) {
        let began = Instant::now();
        while self.waiting().await == 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "nobody comes to write {}", self.table);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many stand at it.
    pub async fn waiting(&mut self) -> i64 {
        // Tables of databases that were copied from one template have the same number.
        let waiting = "select count(*) from pg_locks where relation = $1::regclass and not granted
            and database = (select oid from pg_database where datname = current_database())";
        sqlx::query_scalar(waiting).bind(self.table).fetch_one(&mut self.connection).await.unwrap()
    }

    /// Waits until somebody else waits for a domain, which whoever stands here holds.
    pub async fn queued_behind(&mut self) {
        advisory_awaited(&mut self.connection).await;
    }

    pub async fn open(self) {
        self.connection.close().await.unwrap();
    }
}

/// Whoever inserts such a row waits as long as the connection lives; `condition` is about `new`.
pub async fn hold_rows(database: &str, table: &str, condition: &str) -> PgConnection {
    let mut connection = PgConnection::connect(database).await.unwrap();
    let statements = format!(
        "create function held() returns trigger language plpgsql as
            $$ begin if {condition} then perform pg_advisory_xact_lock_shared(0); end if; return new; end $$;
         create trigger held before insert on {table} for each row execute function held();
         select pg_advisory_lock(0)"
    );
    sqlx::raw_sql(&statements).execute(&mut connection).await.unwrap();
    connection
}

/// Waits until somebody waits for a lock of a domain, or of rows that are held.
pub async fn advisory_awaited(connection: &mut PgConnection) {
    let began = Instant::now();
    let waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted
        and database = (select oid from pg_database where datname = current_database()))";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut *connection).await.unwrap() {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
