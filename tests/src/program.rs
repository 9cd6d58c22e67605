//! Random programs for the guest `program`: all that a function may do, in any order and to any end.

use serde_json::{Value, json};

use crate::Rng;

/// The tables that the programs use.
pub const SCHEMA: &str = "
    create table written (key bigint not null, tenant text default nullif(current_setting('app.tenant', true), ''));
    create table junk (number int);
    create table refused (number int);
    create table slow (number int);
    create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'refused at its commit' using errcode = '40001'; end $$;
    create constraint trigger refuse after insert on refused deferrable initially deferred
        for each row execute function refuse();
    create function tarry() returns trigger language plpgsql as
        $$ begin perform pg_sleep(0.02); return null; end $$;
    create constraint trigger tarry after insert on slow deferrable initially deferred
        for each row execute function tarry();
";

/// SQL that leaves something behind, or fails, or takes a while, or returns much.
const STATEMENTS: [&str; 35] = [
    "select generate_series(1, 3)",
    "select repeat('x', 1000) from generate_series(1, 2000)",
    "select null::text",
    "select repeat('x', 9000000)",
    "select 1 / (3 - n) from generate_series(1, 5) n",
    "select 1 / (900 - n), repeat('x', 1000) from generate_series(1, 2000) n",
    "select 1 / 0",
    "select from nowhere",
    "select pg_sleep(0.002)",
    "select pg_sleep(0.05)",
    "select pg_sleep(60)",
    "insert into junk select from generate_series(1, 10)",
    "insert into refused values (1)",
    "insert into slow values (1)",
    "set work_mem to '12345kB'",
    "set local work_mem to '12345kB'",
    "set search_path to nowhere, public",
    "set default_transaction_isolation to serializable",
    "select set_config('left.over', 'here', false)",
    "select set_config('left.over', n::text, false), repeat('x', 1000) from generate_series(1, 2000) n",
    "reset all",
    "discard all",
    "deallocate all",
    "create temporary table left_over (name text)",
    "select pg_advisory_lock(4711)::text",
    "select pg_advisory_xact_lock_shared(4711)::text",
    "listen left_over",
    "notify left_over, 'said'",
    "prepare left_over as select 1",
    "declare left_over cursor with hold for select 1",
    "set role pg_monitor",
    "set session authorization pg_monitor",
    "copy junk to stdout",
    "copy junk from stdin",
    "savepoint here",
];

/// SQL with an argument, a number; what it is taken for is not always one.
const ASKING: [&str; 9] = [
    "select $1::int4 + n from generate_series(1, 3) n",
    "select repeat('x', 1000), 1 / ($1::int4 - n) from generate_series(1, 2000) n",
    "insert into junk values ($1)",
    "select set_config('left.over', $1::int4::text, false)",
    "select pg_advisory_lock($1)::text",
    "select 1 / $1",
    "select $1::text",
    "select $1",
    "select from nowhere where number = $1",
];

/// Writes none of what it is sent. A text is no data in the binary format.
const COPY_IN: [&str; 4] = [
    "copy junk from stdin where false",
    "copy junk from stdin with (format csv) where false",
    "copy junk from stdin with (format binary) where false",
    "copy nowhere from stdin",
];

const COPY_OUT: [&str; 4] = [
    "copy (select repeat('x', 1000) from generate_series(1, 2000)) to stdout",
    "copy (select 1 / (900 - n), repeat('x', 1000) from generate_series(1, 2000) n) to stdout",
    "copy (select 1) to stdout",
    "copy (select 1) to stdout with (format binary)",
];

/// Where a step is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Client,
    Transaction,
    Session,
}

/// Where programs come from, and what must become of what they write.
pub struct Programs {
    rng: Rng,
    /// Whether statements end their own server process.
    pub kills: bool,
    next: i64,
    never: Vec<i64>,
    /// Whether this program has had its transaction by text: a second one could commit its rows.
    has_text: bool,
    /// Whether something goes on beside this program, which could fail a transaction by text
    /// unnoticed.
    has_spawned: bool,
}

impl Programs {
    /// The programs that this seed determines.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            kills: false,
            // A number that is nothing else in an event.
            next: 10_000_000,
            never: Vec::new(),
            has_text: false,
            has_spawned: false,
        }
    }

    /// For all else that a test leaves to chance.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The keys that cannot have been written, whatever happened.
    pub fn never(&self) -> &[i64] {
        &self.never
    }

    /// The event of one invocation.
    pub fn event(&mut self) -> Value {
        (self.has_text, self.has_spawned) = (false, false);
        let mut steps = self.steps(Place::Client, 0, false, 5);
        if self.rng.once_in(6) {
            let end = self
                .rng
                .one_of(&["panic", "trap", "spin", "recurse", "grow", "exit"]);
            steps.push(json!({ "do": end }));
        }
        json!({ "program": { "steps": steps, "fails": self.rng.once_in(5) } })
    }

    /// Steps at one place; `lost` if what they write there is never committed.
    fn steps(&mut self, place: Place, depth: u32, lost: bool, most: usize) -> Vec<Value> {
        let count = 1 + self.rng.below(most);
        (0..count).map(|_| self.step(place, depth, lost)).collect()
    }

    fn step(&mut self, place: Place, depth: u32, lost: bool) -> Value {
        if depth >= 3 {
            return self.single(place, lost);
        }
        let next = depth + 1;
        match self.rng.below(26) {
            0..=3 => self.transaction(place, next, lost),
            4 if place != Place::Transaction => {
                let options = self.options(place);
                let steps = self.steps(Place::Transaction, next, lost, 3);
                json!({ "do": "transact", "steps": steps, "options": options })
            }
            4..=6 if place == Place::Client => {
                let end = self
                    .rng
                    .one_of(&["drop", "drop", "close", "close", "forget", "keep"]);
                json!({ "do": "session", "steps": self.steps(Place::Session, next, lost, 4), "end": end })
            }
            // Within something that may be dropped nobody could say where it ended.
            7 if place == Place::Client && depth == 0 && !self.has_text && !self.has_spawned => {
                self.text(next)
            }
            8..=9 => {
                let steps: Vec<Value> = match place {
                    Place::Client => (0..3)
                        .map(|_| self.step(place, next.max(2), lost))
                        .collect(),
                    _ => (0..3).map(|_| self.single(place, lost)).collect(),
                };
                json!({ "do": "join", "steps": steps })
            }
            10..=12 => {
                let millis = self.rng.one_of(&[0, 1, 2, 5, 20]);
                json!({ "do": "hurry", "millis": millis, "step": self.step(place, next, lost) })
            }
            13 => json!({ "do": "once", "step": self.step(place, next, lost) }),
            14 => {
                let millis = self.rng.one_of(&[1, 3, 30]);
                json!({ "do": "timeout", "millis": millis, "steps": self.steps(place, next, lost, 3) })
            }
            15 => json!({ "do": "use_kept" }),
            16 if self.rng.once_in(4) => {
                json!({ "do": self.rng.one_of(&["panic", "trap", "spin"]) })
            }
            17..=18 if place == Place::Client && !self.has_text => {
                self.has_spawned = true;
                json!({ "do": "spawn", "steps": self.steps(place, next, lost, 3) })
            }
            19 => {
                let begin = self.begin();
                json!({ "do": "during", "begin": begin, "step": self.step(place, next, lost) })
            }
            20..=21 if place == Place::Session => self.notification(),
            _ => self.single(place, lost),
        }
    }

    fn transaction(&mut self, place: Place, depth: u32, lost: bool) -> Value {
        let end = self.rng.one_of(&[
            "commit", "commit", "commit", "rollback", "drop", "forget", "keep",
        ]);
        // What is forgotten within a transaction is a part of that.
        let open_ended = place == Place::Transaction && ["forget", "keep"].contains(&end);
        let lost = lost || (end != "commit" && !open_ended);
        let options = self.options(place);
        let steps = self.steps(Place::Transaction, depth, lost, 4);
        json!({ "do": "transaction", "steps": steps, "end": end, "options": options })
    }

    /// Those of a transaction; within another it is a savepoint, which has a name.
    fn options(&mut self, place: Place) -> Value {
        if place == Place::Transaction {
            let name = self.rng.one_of(&["here", "here", "say \"here\"", ""]);
            return match self.rng.once_in(2) {
                true => json!({ "name": name }),
                false => json!({}),
            };
        }
        let mut options = json!({});
        if self.rng.once_in(3) {
            options["isolation"] = json!(self.rng.one_of(&[
                "serializable",
                "repeatable read",
                "read committed",
                "read uncommitted",
            ]));
        }
        for name in ["read_only", "deferrable"] {
            if self.rng.once_in(6) {
                options[name] = json!(self.rng.once_in(2));
            }
        }
        options
    }

    /// Waits for a notification, now and then for one that comes.
    fn notification(&mut self) -> Value {
        let millis = self.rng.one_of(&[0, 2, 20]);
        let wait = json!({ "do": "hurry", "millis": millis, "step": { "do": "notification" } });
        let listen =
            json!({ "do": "listen", "channel": self.rng.one_of(&["left_over", "Left \"Over"]) });
        let notify = json!({ "do": "batch", "sql": "notify left_over, 'said'" });
        match self.rng.below(3) {
            0 => wait,
            1 => json!({ "do": "timeout", "millis": 5000, "steps": [listen, wait] }),
            _ => {
                json!({ "do": "timeout", "millis": 5000, "steps": [listen, notify, notify, wait] })
            }
        }
    }

    fn text(&mut self, depth: u32) -> Value {
        self.has_text = true;
        let end = self.rng.one_of(&["commit", "rollback", ""]);
        let lost = end != "commit";
        let steps: Vec<Value> = (0..1 + self.rng.below(4))
            .map(|_| match self.rng.below(4) {
                0 => {
                    let millis = self.rng.one_of(&[0, 1, 5]);
                    json!({ "do": "hurry", "millis": millis, "step": self.single(Place::Client, lost) })
                }
                1 => self.step(Place::Transaction, depth.max(3), lost),
                _ => self.write(lost),
            })
            .collect();
        json!({ "do": "text", "steps": steps, "end": end })
    }

    fn write(&mut self, lost: bool) -> Value {
        let count = self.rng.one_of(&[1, 1, 1, 3]);
        let keys: Vec<i64> = (self.next..self.next + count).collect();
        self.next += count;
        if lost {
            self.never.extend(&keys);
        }
        match keys.as_slice() {
            [key] => {
                let way = self.rng.one_of(&[
                    "execute",
                    "execute",
                    "typed",
                    "prepared",
                    "returning",
                    "copy",
                    "binary",
                ]);
                json!({ "do": "write", "key": key, "way": way })
            }
            keys => {
                let behind = self.rng.one_of(&["nothing", "nothing", "typed"]);
                json!({ "do": "write_all", "keys": keys, "behind": behind })
            }
        }
    }

    /// What never writes its rows, since it fails behind them or has no end.
    fn write_in_vain(&mut self) -> Value {
        let key = self.next;
        self.next += 1;
        self.never.push(key);
        match self.rng.below(4) {
            0 => json!({ "do": "write_all", "keys": [key], "behind": "failing" }),
            1 => json!({ "do": "write_all", "keys": [key], "behind": "unknown" }),
            kind => json!({ "do": "begin_to_write", "key": key, "forget": kind == 2 }),
        }
    }

    /// A step that is one call.
    fn single(&mut self, place: Place, lost: bool) -> Value {
        match self.rng.below(18) {
            0..=4 => self.write(lost),
            5 => self.write_in_vain(),
            6..=9 => self.begin(),
            10 => json!({ "do": "pipeline", "sqls": [self.statement(), self.statement()] }),
            11 => json!({ "do": "sleep", "millis": self.rng.below(10) }),
            12 => json!({ "do": "one", "sql": self.statement() }),
            13 => json!({ "do": "prepare", "sql": self.statement() }),
            14 => json!({ "do": "use_prepared" }),
            15 => json!({ "do": "execute", "sql": self.statement() }),
            16 if self.rng.once_in(4) => {
                json!({ "do": "open", "name": self.rng.one_of(&["default", "nowhere"]) })
            }
            17 if place == Place::Session => {
                json!({ "do": "listen", "channel": "left_over" })
            }
            _ => json!({ "do": "batch", "sql": self.statement() }),
        }
    }

    /// What comes or goes in pieces, and how far it gets.
    fn begin(&mut self) -> Value {
        let flow = self.rng.one_of(&["all", "all", "half", "forget", "keep"]);
        match self.rng.below(4) {
            0 => {
                let pieces = self.rng.one_of(&[0, 1, 3, 30]);
                json!({ "do": "copy_in", "sql": self.rng.one_of(&COPY_IN), "pieces": pieces, "end": flow })
            }
            1 => json!({ "do": "copy_out", "sql": self.rng.one_of(&COPY_OUT), "end": flow }),
            2 => {
                let sql = format!("/* {} */ {}", self.rng.below(2), self.rng.one_of(&ASKING));
                let value = self.rng.one_of(&[0, 1, 3, 900]);
                let named = self.rng.once_in(2);
                json!({ "do": "asked", "sql": sql, "value": value, "named": named, "rows": flow })
            }
            _ => json!({ "do": "query", "sql": self.statement(), "rows": flow }),
        }
    }

    fn statement(&mut self) -> String {
        let sql = match self.kills && self.rng.once_in(8) {
            true => "select pg_terminate_backend(pg_backend_pid())",
            false => self.rng.one_of(&STATEMENTS),
        };
        // Texts that differ are prepared each for itself: more than there is room for.
        format!("/* {} */ {sql}", self.rng.below(3))
    }
}
