//! `COPY` both ways: one into a table copies all that was sent or nothing, and one out of it is read as far as the
//! function likes.

use e2e::guests::{COPYING, PROGRAM, QUERY};
use e2e::permission::flat;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (id int4 primary key, name text)";

/// A row of the number 7 waits for whoever holds the lock.
const WAITING: &str = "create table things (number int4, name text);
    create function wait() returns trigger language plpgsql as
        $$ begin if new.number = 7 then perform pg_advisory_xact_lock_shared(1); end if; return new; end $$;
    create trigger waits before insert on things for each row execute function wait()";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&QUERY).with(&database).start(door).await;
    (database, trial)
}

/// The guest that gives up pieces of a copy in the middle.
async fn copying(door: Door) -> (Database, Trial) {
    let database = Database::with(WAITING).await;
    let setup = Setup::of(&COPYING)
        .with(&database)
        .function("memory_mib", "512");
    (database, setup.start(door).await)
}

behind_both_doors! {
    async fn rows_are_copied_into_a_table_in_pieces_that_end_anywhere(door) {
        let (database, trial) = trial(door).await;
        let copy = "copy things from stdin with (format csv)";
        let results = trial.results(json!([
            { "copy_in": copy, "pieces": ["1,o", "ne\n2,tw", "", "o\n"] },
            { "transaction": [{ "copy_in": copy, "pieces": ["3,three\n"] }], "end": "rollback" },
            { "session": [{ "copy_in": copy, "pieces": ["4,four\n"] }] },
            { "copy_out": "copy (select * from things order by id) to stdout with (format csv)" },
        ])).await;
        assert_eq!(results[0], json!({ "copied": 2 }));
        assert_eq!(results[1]["steps"][0], json!({ "copied": 1 }));
        assert_eq!(results[2][0], json!({ "copied": 1 }));
        assert_eq!(results[3]["text"], "1,one\n2,two\n4,four\n");
        assert_eq!(database.count("things").await, 3);
    }

    async fn a_copy_that_fails_or_is_dropped_copies_nothing(door) {
        let (database, trial) = trial(door).await;
        let copy = "copy things from stdin with (format csv)";
        for steps in [
            json!([{ "copy_in": copy, "pieces": ["1,one\n"], "unfinished": true }]),
            json!([{ "copy_in": copy, "pieces": ["1,one\n1,two\n"] }]),
            json!([{ "copy_in": copy, "pieces": ["no number,one\n", "2,two\n"] }]),
            json!([{ "copy_in": "copy nowhere from stdin", "pieces": ["1\n"] }]),
            json!([{ "session": [{ "copy_in": copy, "pieces": ["1,one\n"], "unfinished": true }, { "query": "select 1" }] }]),
            json!([{ "transaction": [{ "copy_in": copy, "pieces": ["1,one\n"], "unfinished": true }], "end": "commit" }]),
        ] {
            let mut steps = steps.as_array().expect("a list").clone();
            steps.push(json!({ "query": "select count(*) from things" }));
            let results = trial.results(Value::Array(steps.clone())).await;
            assert_eq!(results[1]["rows"], json!([[0]]), "{steps:?}: {results}");
        }
        assert_eq!(database.count("things").await, 0);
    }

    /// More notices than the sockets on the way hold, while as much data are on their way to the server.
    async fn a_copy_in_of_which_the_server_has_much_to_say_goes_on(door) {
        let (database, trial) = trial(door).await;
        database.run("
            create function tell() returns trigger language plpgsql as
                $$ begin raise notice '%', new.name; return new; end $$;
            create trigger tell before insert on things for each row execute function tell()
        ").await;
        let name = "x".repeat(1000);
        let piece = |first: u32| (first..first + 50).map(|id| format!("{id},{name}\n")).collect::<String>();
        let pieces: Vec<String> = (0..60).map(|index| piece(50 * index)).collect();
        let copy = json!({ "copy_in": "copy things from stdin with (format csv)", "pieces": pieces });
        let results = trial.results(json!([copy, { "query": "select count(*) from things" }])).await;
        assert_eq!(results[0], json!({ "copied": 3000 }), "{results}");
        assert_eq!(results[1]["rows"], json!([[3000]]));
    }

    /// While more data wait to be taken than the sockets on the way hold.
    async fn what_the_server_says_of_data_that_it_has_yet_to_take_is_told(door) {
        let (database, trial) = trial(door).await;
        database.run("
            create function tell() returns trigger language plpgsql as
                $$ begin raise notice 'Taken: %', new.name; return new; end $$;
            create trigger tell before insert on things for each row execute function tell()
        ").await;
        let name = "x".repeat(100_000);
        let data: String = (0..30).map(|id| format!("{id},{name}\n")).collect();
        let copy = json!({ "copy_in": "copy things from stdin with (format csv)", "pieces": [data] });
        assert_eq!(trial.results(json!([copy])).await[0], json!({ "copied": 30 }));
        e2e::eventually("a line for each", async || (trial.host.lines("Taken: ") == 30).then_some(())).await;
    }

    async fn what_is_no_copy_in_that_direction_says_so(door) {
        let (database, trial) = trial(door).await;
        let insert = "insert into things values (77, 'never')";
        let sent = format!("copy ({insert} returning id) to stdout");
        let results = trial.results(json!([
            { "copy_in": "select 1", "pieces": [] },
            { "copy_in": sent, "pieces": [] },
            { "copy_in": "copy things from '/dev/null'", "pieces": [] },
            { "copy_out": "copy things from stdin" },
            { "copy_out": format!("{insert}; copy things to stdout") },
            { "query": "copy things from stdin" },
            { "execute": "copy things to stdout" },
            { "batch": format!("{insert}; copy things from stdin") },
            { "batch": sent },
            { "transaction": [{ "batch": format!("{insert}; {sent}") }], "end": "commit" },
            { "query": "select 1" },
        ])).await;
        let results = flat(results);
        for (index, wrong) in results[..10].iter().enumerate() {
            let words = match index {
                ..3 => "this takes COPY … FROM STDIN",
                3..5 => "this takes COPY … TO STDOUT",
                _ => "use copy-in or copy-out (in Rust `copy_in`, `copy_out`)",
            };
            assert!(wrong["error"]["message"].as_str().is_some_and(|told| told.contains(words)), "{index}: {results}");
        }
        assert_eq!(results.last().unwrap()["rows"], json!([[1]]));
        // Whoever is told that it was refused may do it again.
        assert_eq!(database.count("things where id = 77").await, 0);
    }

    /// The second one's turn comes when the first waits for the guest, which is about to send its data.
    async fn a_copy_that_was_called_beside_another_does_not_take_its_data(door) {
        let database = Database::with("create table things (number int); create table written (key bigint)").await;
        let trial = Setup::of(&PROGRAM).with(&database).start(door).await;
        let copy = |table: &str| json!({ "do": "copy_in", "sql": format!("copy {table} from stdin"), "pieces": 3, "end": "all" });
        let both = json!({ "do": "join", "steps": [copy("things"), copy("written")] });
        let session = json!({ "do": "session", "steps": [both], "end": "drop" });
        trial.value(json!({ "program": { "steps": [session], "fails": false } })).await;
        let counts = "select (select count(*) from things) || ' ' || (select count(*) from written)";
        assert_eq!(database.value(counts).await.as_deref(), Some("30000 0"));
    }

    async fn a_table_of_any_size_is_copied_out_and_may_be_left_half_read(door) {
        let (_database, trial) = trial(door).await;
        let large = "copy (select repeat('x', 99) from generate_series(1, 100000)) to stdout";
        let results = trial.results(json!([
            { "copy_out": large },
            { "copy_out": large, "unfinished": true },
            { "transaction": [{ "copy_out": large, "unfinished": true }, { "query": "select 1" }], "end": "commit" },
            { "query": "select 1" },
        ])).await;
        assert_eq!(results[0]["bytes"], 100 * 100_000);
        assert_eq!(results[1], json!({ "some": true }));
        assert_eq!(results[3]["rows"], json!([[1]]));
    }

    async fn a_copy_of_which_a_piece_was_refused_copies_nothing(door) {
        let (database, trial) = copying(door).await;
        let said = trial.value(json!("refused")).await;
        assert!(said[0]["Err"].to_string().contains("Busy"), "{said}");
        for behind in [&said[1], &said[2]] {
            assert!(behind["Err"].to_string().contains("Ended"), "{said}");
        }
        assert_eq!(database.count("things").await, 0);
    }

    async fn a_copy_of_which_a_piece_was_given_up_before_its_turn_copies_nothing(door) {
        let (database, trial) = copying(door).await;
        let said = trial.value(json!("given up")).await;
        assert_eq!(said[0], json!([true, true, { "Ok": null }]), "{said}");
        for behind in [&said[1], &said[2]] {
            assert!(behind["Err"].to_string().contains("Ended"), "{said}");
        }
        assert_eq!(database.count("things").await, 0);
    }

    async fn a_copy_does_not_end_well_once_its_transaction_is_over(door) {
        let (database, trial) = copying(door).await;
        assert_eq!(trial.value(json!("committed")).await, json!([true, true]));
        assert_eq!(database.count("things").await, 0);
    }

    /// The server has it by then; sent once more, it would be there twice.
    async fn a_copy_of_which_a_piece_was_given_up_copies_nothing_though_it_came_through(door) {
        let (database, trial) = copying(door).await;
        let said = trial.value(json!("unheard")).await;
        assert_eq!(said[0], json!(true), "{said}");
        for behind in [&said[1], &said[2]] {
            assert!(behind["Err"].to_string().contains("a piece may be missing"), "{said}");
        }
        assert_eq!(database.count("things").await, 0);
    }
}
