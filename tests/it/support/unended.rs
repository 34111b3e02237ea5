//! No job may be left over at the end of a test, whether or not the test looks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

/// A database that is in use. Whoever drops this without an end has left over what is still to be done there.
pub struct Unended(Mutex<Option<String>>);

impl Unended {
    pub fn of(database: &str) -> Self {
        Self(Mutex::new(Some(database.to_owned())))
    }

    /// Somebody has looked, or says that jobs are left over.
    pub fn looked(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Unended {
    fn drop(&mut self) {
        let database = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(database) = database.filter(|_| !std::thread::panicking()) else { return };
        // Whoever drops this is within a runtime, which must not be blocked by itself.
        let looked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(left_over(&database))
        });
        assert_eq!(looked.join().unwrap(), 0, "jobs are left over, and nobody has ended the environment");
    }
}

/// Jobs that are not done after a while: what is told to a target beside a record comes to its end a moment later.
pub async fn left_over(database: &str) -> i64 {
    let mut connection = PgConnection::connect(database).await.unwrap();
    let mut open = 0;
    for _ in 0..500 {
        open = ferry::db::jobs::open_count(&mut connection).await.unwrap();
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    open
}
