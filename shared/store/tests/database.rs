//! The store against real files.

use jiff::{SignedDuration, Timestamp};
use meshward_store::{Database, Earlier, Migration, Repeat, StoreError};
use sqlx::Row as _;

const NOTES: &[Migration] = &[(1, "notes", "CREATE TABLE notes (id TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT;")];

struct Temp {
    _dir: tempfile::TempDir,
    url: String,
}

fn temp() -> Temp {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("test.db").display());
    Temp { _dir: dir, url }
}

async fn insert(db: &Database, id: &str) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    sqlx::query("INSERT INTO notes (id, n) VALUES ($1, 1)").bind(id).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

async fn count(db: &Database) -> i64 {
    sqlx::query("SELECT count(*) AS n FROM notes").fetch_one(db.read()).await.unwrap().get("n")
}

#[tokio::test]
async fn what_is_committed_survives_reopening_and_what_is_not_does_not() {
    let temp = temp();
    let db = Database::open(&temp.url, NOTES).await.unwrap();
    insert(&db, "a").await.unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO notes (id, n) VALUES ('b', 1)").execute(&mut *tx).await.unwrap();
    assert_eq!(count(&db).await, 1, "not visible before the commit");
    drop(tx);
    db.close().await;

    let more: Vec<Migration> =
        NOTES.iter().copied().chain([(2, "more", "ALTER TABLE notes ADD COLUMN t TEXT;")]).collect();
    let db = Database::open(&temp.url, &more).await.unwrap();
    assert_eq!(count(&db).await, 1);
    sqlx::query("SELECT t FROM notes").fetch_one(db.read()).await.unwrap();
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let temp = temp();
    Database::open(&temp.url, NOTES).await.unwrap().close().await;
    let changed: &[Migration] = &[(1, "notes", "CREATE TABLE notes (id TEXT) STRICT;")];
    assert!(matches!(Database::open(&temp.url, changed).await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn other_databases_are_refused_in_words_and_without_the_password() {
    for (url, words) in [
        ("postgres://user:hunter2@db/meshward", "PostgreSQL is not built in yet"),
        ("mysql://user:hunter2@db/x", "must begin with sqlite:"),
        ("sqlite::memory:", "name a file"),
    ] {
        let Err(StoreError::Unavailable(why)) = Database::open(url, NOTES).await else { panic!("{url} was opened") };
        let why = why.to_string();
        assert!(why.contains(words) && !why.contains("hunter2"), "{why}");
    }
}

#[tokio::test]
async fn errors_are_classes() {
    let temp = temp();
    let db = Database::open(&temp.url, NOTES).await.unwrap();
    insert(&db, "a").await.unwrap();
    let taken = insert(&db, "a").await.unwrap_err();
    assert!(taken.is_taken("notes.id") && !taken.is_taken("notes.i"), "{taken:?}");
    let missing: StoreError =
        sqlx::query("SELECT 1 FROM notes WHERE id = 'z'").fetch_one(db.read()).await.unwrap_err().into();
    assert!(matches!(missing, StoreError::NotFound), "{missing:?}");
    let wrong: StoreError = sqlx::query("SELECT nothing FROM notes").fetch_one(db.read()).await.unwrap_err().into();
    assert!(matches!(wrong, StoreError::Corrupt(_)), "{wrong:?}");
    let read_only: StoreError = sqlx::query("DELETE FROM notes").execute(db.read()).await.unwrap_err().into();
    assert!(matches!(read_only, StoreError::Unavailable(_)), "{read_only:?}");
    db.close().await;
    assert!(matches!(insert(&db, "c").await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_take_turns() {
    let temp = temp();
    let db = Database::open(&temp.url, NOTES).await.unwrap();
    insert(&db, "a").await.unwrap();
    let add = |db: Database| async move {
        for _ in 0..10 {
            let mut tx = db.begin().await.unwrap();
            let n: i64 = sqlx::query("SELECT n FROM notes").fetch_one(&mut *tx).await.unwrap().get("n");
            sqlx::query("UPDATE notes SET n = $1").bind(n + 1).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(add(db.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let n: i64 = sqlx::query("SELECT n FROM notes").fetch_one(db.read()).await.unwrap().get("n");
    assert_eq!(n, 81, "no update was lost");
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_for_a_day() {
    let temp = temp();
    let db = Database::open(&temp.url, NOTES).await.unwrap();
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let first = Repeat::new("id", "alice", "Create", b"x");
    let mut tx = db.begin().await.unwrap();
    assert_eq!(first.recall(&mut tx, start).await.unwrap(), Earlier::Nothing);
    first.remember(&mut tx, b"answer", start).await.unwrap();
    tx.commit().await.unwrap();

    let same = || Earlier::SameRequest(b"answer".to_vec());
    let later = |hours| start + SignedDuration::from_hours(hours);
    for (repeat, at, expected) in [
        (first.clone(), later(23), same()),
        (Repeat::new("id", "alice", "Create", b"y"), later(23), Earlier::OtherRequest),
        (Repeat::new("id", "alice", "Update", b"x"), later(23), Earlier::OtherRequest),
        (Repeat::new("id", "mallory", "Create", b"x"), later(23), Earlier::Nothing),
        (Repeat::new("", "alice", "Create", b"x"), later(23), Earlier::Nothing),
        (first.clone(), later(24), Earlier::Nothing),
    ] {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(repeat.recall(&mut tx, at).await.unwrap(), expected, "{repeat:?}");
        tx.commit().await.unwrap();
    }
}
