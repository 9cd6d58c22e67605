//! A `COPY` into a table copies all that was sent, or nothing.

use e2e::guests::COPYING;
use e2e::{Database, Door, Setup, Trial};
use serde_json::json;

/// A row of this number waits for whoever holds the lock.
const SCHEMA: &str = "create table things (number int4, name text);
    create function wait() returns trigger language plpgsql as
        $$ begin if new.number = 7 then perform pg_advisory_xact_lock_shared(1); end if; return new; end $$;
    create trigger waits before insert on things for each row execute function wait()";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let setup = Setup::of(&COPYING)
        .with(&database)
        .function("memory_mib", "512");
    (database, setup.start(door).await)
}

async fn count(database: &Database) -> Option<String> {
    database.value("select count(*) from things").await
}

behind_both_doors! {
    async fn a_copy_of_which_a_piece_was_refused_copies_nothing(door) {
        let (database, trial) = trial(door).await;
        let said = trial.value(json!("refused")).await;
        assert!(said[0]["Err"].to_string().contains("Busy"), "{said}");
        for behind in [&said[1], &said[2]] {
            assert!(behind["Err"].to_string().contains("Ended"), "{said}");
        }
        assert_eq!(count(&database).await.as_deref(), Some("0"));
    }

    async fn a_copy_of_which_a_piece_was_given_up_before_its_turn_copies_nothing(door) {
        let (database, trial) = trial(door).await;
        let said = trial.value(json!("given up")).await;
        assert_eq!(said[0], json!([true, true, { "Ok": null }]), "{said}");
        for behind in [&said[1], &said[2]] {
            assert!(behind["Err"].to_string().contains("Ended"), "{said}");
        }
        assert_eq!(count(&database).await.as_deref(), Some("0"));
    }

    async fn a_copy_does_not_end_well_once_its_transaction_is_over(door) {
        let (database, trial) = trial(door).await;
        assert_eq!(trial.value(json!("committed")).await, json!([true, true]));
        assert_eq!(count(&database).await.as_deref(), Some("0"));
    }

    /// The server has it by then; sent once more, it would be there twice.
    async fn a_copy_of_which_a_piece_was_given_up_copies_nothing_though_it_came_through(door) {
        let (database, trial) = trial(door).await;
        let said = trial.value(json!("unheard")).await;
        assert_eq!(said[0], json!(true), "{said}");
        for behind in [&said[1], &said[2]] {
            assert!(behind["Err"].to_string().contains("a piece may be missing"), "{said}");
        }
        assert_eq!(count(&database).await.as_deref(), Some("0"));
    }
}
