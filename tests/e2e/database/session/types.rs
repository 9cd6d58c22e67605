//! Every type that PostgreSQL has goes both ways, byte for byte.
//!
//! A function reads values as they come and gives them back as parameters of their type. What
//! PostgreSQL then makes of them, and the bytes that it sends for them, must be what they were.

use std::collections::BTreeMap;

use e2e::guests::{MISFIT, TYPED, TYPES};
use e2e::{Database, Door, Setup, Trial};
use serde_json::json;

use super::type_samples::{EXCEPTIONS, literals};

/// How many types one event brings.
const LOADS_MAX: usize = 25;

/// A row of `pg_type`, with what else is known of the type.
struct Known {
    name: String,
    /// As SQL writes it.
    sql: String,
    /// `pg_type.typtype`; `A` for an array.
    kind: String,
    /// Whether PostgreSQL takes it in binary.
    receives: bool,
    /// The element of an array, the base of a domain, the subtype of a range, the range of a multirange.
    inner: Option<u32>,
    labels: Vec<String>,
    fields: Vec<u32>,
}

const CATALOG: &str = "
    select t.oid, t.typname::text, format_type(t.oid, -1),
           case when t.typcategory = 'A' and t.typtype = 'b' then 'A' else t.typtype::text end,
           t.typreceive <> 0,
           coalesce(e.oid, r.rngsubtype, m.rngtypid, nullif(t.typbasetype, 0)),
           array(select enumlabel::text from pg_enum where enumtypid = t.oid order by enumsortorder),
           array(select atttypid from pg_attribute
                 where attrelid = t.typrelid and attnum > 0 and not attisdropped order by attnum)
    from pg_type t left join pg_type e on e.typarray = t.oid
    left join pg_range r on r.rngtypid = t.oid left join pg_range m on m.rngmultitypid = t.oid";

struct Catalog(BTreeMap<u32, Known>);

/// Why there is no value of a type.
type Reason = String;

impl Catalog {
    async fn read(database: &Database) -> Self {
        let rows = database.client().await.query(CATALOG, &[]).await.unwrap();
        let known = rows.iter().map(|row| {
            let known = Known {
                name: row.get(1),
                sql: row.get(2),
                kind: row.get(3),
                receives: row.get(4),
                inner: row.get(5),
                labels: row.get(6),
                fields: row.get(7),
            };
            (row.get(0), known)
        });
        Self(known.collect())
    }

    /// SQL for values of a type.
    fn values(&self, oid: u32) -> Result<Vec<String>, Reason> {
        let known = &self.0[&oid];
        let sql = &known.sql;
        if known.kind == "p" {
            return Err("it is a pseudo-type: no column can have it".to_owned());
        }
        if EXCEPTIONS.contains(&&*known.name) {
            return Err("PostgreSQL takes no value of it from outside".to_owned());
        }
        if let Some(literals) = literals(&known.name) {
            let quoted = |text: &String| format!("{}::{sql}", quote(text));
            return Ok(literals.iter().map(quoted).collect());
        }
        let inner = || {
            let inner = known
                .inner
                .unwrap_or_else(|| panic!("nothing is known of {}", known.name));
            self.values(inner)
                .map_err(|reason| self.made_of(inner, &reason))
        };
        Ok(match known.kind.as_str() {
            "A" => arrays(sql, &inner()?),
            "d" => inner()?
                .iter()
                .map(|value| format!("({value})::{sql}"))
                .collect(),
            "e" => known
                .labels
                .iter()
                .map(|label| format!("{}::{sql}", quote(label)))
                .collect(),
            "r" => ranges(sql, &inner()?),
            "m" => multiranges(sql, &inner()?),
            "c" => self.composites(known)?,
            kind => panic!(
                "no value of {} (kind {kind}) is named in type_samples.rs",
                known.name
            ),
        })
    }

    fn made_of(&self, oid: u32, reason: &str) -> Reason {
        match reason.starts_with("it is made of") {
            true => reason.to_owned(),
            false => format!("it is made of `{}`: {reason}", self.0[&oid].name),
        }
    }

    /// A row of values, and one of NULLs. A field of which there is no value is NULL in both.
    fn composites(&self, known: &Known) -> Result<Vec<String>, Reason> {
        let sql = &known.sql;
        let mut fields = Vec::new();
        for &oid in &known.fields {
            fields.push(match self.values(oid) {
                Ok(values) => values[0].clone(),
                Err(_) => "null".to_owned(),
            });
        }
        let nulls = format!("jsonb_populate_record(null::{sql}, '{{}}')");
        Ok(vec![format!("row({})::{sql}", fields.join(", ")), nulls])
    }

    /// Whether PostgreSQL takes a type, and all that it is made of, in binary.
    fn is_binary(&self, known: &Known) -> bool {
        let mut parts = known
            .fields
            .iter()
            .chain(&known.inner)
            .map(|oid| &self.0[oid]);
        known.receives && parts.all(|part| self.is_binary(part))
    }
}

fn quote(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn first_two(values: &[String]) -> (&str, &str) {
    (&values[0], values.get(1).unwrap_or(&values[0]))
}

/// Empty, with a NULL, of two dimensions, and with bounds of its own.
fn arrays(sql: &str, elements: &[String]) -> Vec<String> {
    let (one, other) = first_two(elements);
    vec![
        format!("'{{}}'::{sql}"),
        format!("array[{one}, null, {other}]::{sql}"),
        format!("array[array[{one}, null], array[{other}, {one}]]::{sql}"),
        format!("('[-2:-1]=' || array[{one}, {other}]::{sql}::text)::{sql}"),
    ]
}

fn ranges(sql: &str, bounds: &[String]) -> Vec<String> {
    let (one, other) = first_two(bounds);
    vec![
        format!("{sql}(least({one}, {other}), greatest({one}, {other}), '[]')"),
        format!("{sql}(null, {one}, '()')"),
        format!("'empty'::{sql}"),
    ]
}

fn multiranges(sql: &str, ranges: &[String]) -> Vec<String> {
    vec![
        format!("{sql}()"),
        format!("{sql}({})", ranges[0]),
        format!("{sql}({})", ranges.join(", ")),
    ]
}

/// Carries values of every type for which `which` holds both ways. Returns how many types passed,
/// and the others with the reason.
async fn carry_all(database: &Database, trial: &Trial, which: &str) -> (usize, Vec<String>) {
    let catalog = Catalog::read(database).await;
    let client = database.client().await;
    let rows = client
        .query(
            &format!("select oid from pg_type where {which} order by oid"),
            &[],
        )
        .await
        .unwrap();
    let mut loads = Vec::new();
    let mut exceptions = Vec::new();
    for oid in rows.iter().map(|row| row.get(0)) {
        let known = &catalog.0[&oid];
        match catalog.values(oid) {
            Ok(values) => loads.push((known, values)),
            Err(reason) => exceptions.push(format!("{}: {reason}", known.name)),
        }
    }
    let mut problems = Vec::new();
    for loads in loads.chunks(LOADS_MAX) {
        let event = loads
            .iter()
            .map(|(known, values)| json!({ "name": known.sql, "values": values }));
        let answer = trial.value(event.collect()).await;
        for ((known, values), carried) in loads.iter().zip(answer.as_array().unwrap()) {
            let mut expected = Vec::new();
            for value in values {
                let sql = format!("select format('%L', {value})");
                let text: String = client.query_one(&sql, &[]).await.unwrap().get(0);
                expected.push(json!({ "text": text, "same": true }));
            }
            let kind = if catalog.is_binary(known) {
                &known.kind
            } else {
                "text"
            };
            let expected = json!({ "kind": kind, "values": expected });
            if *carried != expected {
                problems.push(format!("{}: {carried} instead of {expected}", known.name));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    (loads.len(), exceptions)
}

/// Prints what came of it, and checks that no type is called an exception that is none.
async fn report(database: &Database, what: &str, (passed, exceptions): (usize, Vec<String>)) {
    println!("{what}: {passed} types pass, {} cannot:", exceptions.len());
    exceptions.iter().for_each(|line| println!("  {line}"));
    let client = database.client().await;
    for name in EXCEPTIONS {
        let sql = "select oid::regtype::text from pg_type where typname = $1";
        let Some(row) = client.query_opt(sql, &[name]).await.unwrap() else {
            continue;
        };
        let sql = format!("select ''::{}", row.get::<_, String>(0));
        let error = client.query(&sql, &[]).await.expect_err(name);
        let message = error
            .as_db_error()
            .expect("the server refuses")
            .message()
            .to_lowercase();
        let is_refused =
            message.contains("cannot accept a value") || message.contains("not implemented");
        assert!(is_refused, "{name} is no exception: {message}");
    }
}

#[tokio::test]
async fn every_type_of_a_fresh_cluster_goes_both_ways() {
    let database = Database::create().await;
    let trial = Setup::of(&TYPES).with(&database).start(Door::Lambda).await;
    let carried = carry_all(&database, &trial, "true").await;
    assert!(carried.0 > 500, "only {} types pass", carried.0);
    report(&database, "a fresh cluster", carried).await;
}

/// A domain, a composite, and where there is an order a range, over each type that goes both ways;
/// and for all of these arrays and multiranges. Some are made of each other, and some stand where no
/// search path leads, with names that have to be quoted.
const MADE: &str = r#"
    create type mood as enum ('fine', '', 'so "so"', 'it''s, {bad}', 'Grüße');
    create domain short as varchar(4) check (value <> 'never');
    create type inner_one as (a short, b mood[], c int4range);
    create domain checked as inner_one check ((value).a is distinct from 'no');
    create type outer_one as (d checked, e inner_one[], f mood);
    create domain tall as int4 check (value is distinct from 8);
    create domain taller as tall check (value is distinct from 7);
    create domain many as taller[] check (array_length(value, 1) is distinct from 9);
    create domain moods as mood[];
    create type spans as range (subtype = taller, multirange_type_name = many_spans);
    create domain span as spans;
    create schema "Off ""the"" path";
    create type "Off ""the"" path"."A Mood" as enum ('good', 'B"ad', '');
    create domain "Off ""the"" path"."Its Domain" as "Off ""the"" path"."A Mood";
    create type "Off ""the"" path"."Range" as range (subtype = numeric);
    create type "Off ""the"" path"."Every, thing" as (
        "a.b" taller, "C" many, moods moods, span span, spans many_spans, "select" outer_one[], d checked,
        own "Off ""the"" path"."Its Domain"[], "r" "Off ""the"" path"."Range"[]);
    create domain "Off ""the"" path"."Around" as "Off ""the"" path"."Every, thing"[];
    do $$
    declare t record;
    begin
        for t in select oid, typname, format_type(oid, -1) as sql from pg_type
                 where typtype = 'b' and typsend <> 0 and typreceive <> 0 and typarray <> 0
                   and typnamespace = 'pg_catalog'::regnamespace
                   and not exists (select from pg_type e where e.typarray = pg_type.oid)
        loop
            execute format('create domain %I as %s', 'domain_' || t.typname, t.sql);
            execute format('create type %I as (one %s, many %s[], short %I)',
                           'composite_' || t.typname, t.sql, t.sql, 'domain_' || t.typname);
            if exists (select from pg_opclass where opcintype = t.oid and opcdefault
                       and opcmethod = (select oid from pg_am where amname = 'btree')) then
                execute format('create type %I as range (subtype = %s)', 'range_' || t.typname, t.sql);
            end if;
        end loop;
    end $$;
"#;

#[tokio::test]
async fn every_type_that_is_made_of_others_goes_both_ways() {
    let database = Database::with(MADE).await;
    let trial = Setup::of(&TYPES).with(&database).start(Door::Local).await;
    let which = r#"typnamespace in ('public'::regnamespace, '"Off ""the"" path"'::regnamespace)"#;
    let carried = carry_all(&database, &trial, which).await;
    assert!(carried.0 > 300, "only {} types pass", carried.0);
    report(&database, "made of others", carried).await;
}

#[tokio::test]
async fn the_types_of_extensions_go_both_ways() {
    let database = Database::create().await;
    for extension in [
        "citext", "hstore", "ltree", "cube", "lo", "seg", "isn", "intarray", "pg_trgm",
    ] {
        let sql = "select count(*) from pg_available_extensions where name = ";
        if database
            .value(&format!("{sql}'{extension}'"))
            .await
            .as_deref()
            == Some("1")
        {
            database.run(&format!("create extension {extension}")).await;
        }
    }
    let trial = Setup::of(&TYPES).with(&database).start(Door::Local).await;
    let which = "typnamespace = 'public'::regnamespace";
    let carried = carry_all(&database, &trial, which).await;
    report(&database, "extensions", carried).await;
}

#[tokio::test]
async fn the_values_of_rusts_types_go_both_ways() {
    let schema = r#"
        create extension hstore; create extension citext; create extension ltree;
        create type mood as enum ('very_fine', 'so "so"');
        create domain short as varchar(4);
        create type person as (name short, "Feels" mood[], born int4);
        create type household as (owner person, others person[]);
    "#;
    let database = Database::with(schema).await;
    let trial = Setup::of(&TYPED).with(&database).start(Door::Lambda).await;
    assert_eq!(trial.value(json!(null)).await, json!([]));
}

behind_both_doors! {
    /// Each is found before anything is sent, so that its transaction goes on.
    async fn a_value_that_does_not_fit_is_named_and_its_transaction_goes_on(door) {
        let database = Database::with("create table things (id int4, note text)").await;
        let trial = Setup::of(&MISFIT).with(&database).start(door).await;
        let said = [
            "parameter $2: cannot convert between the Rust type `i32` and the Postgres type `text`; it takes `String`, or a cast in the SQL (`$2::…`)",
            "the statement takes 2 parameters, and 1 is given",
            "the statement takes 2 parameters, and 3 are given",
            "parameter $1 (`int4`): the raw value is of type `text`",
            "parameter $2 has 15728640 bytes, those before it 8, and one call carries at most 15728640",
            "65536 parameters are given, and PostgreSQL takes at most 65535: pass arrays and `unnest` them",
            "the SQL text has 1048577 bytes; 1048576 are the most",
            "the SQL text has 15728641 bytes, and one call carries at most 15728640",
            "column `id` (0): cannot convert between the Rust type `i64` and the Postgres type `int4`; read it as `i32`",
            "column `note` (1) is NULL: read it as an `Option`",
            "the row has no column `total`; it has `id`, `note`",
            "the row has no column `2`; it has `id`, `note`",
            "the query returned no row where one is expected",
            "the query returned several rows where one is expected",
            "column `word` (0): cannot convert between the Rust type `i32` and the Postgres type `text`; read it as `String`",
            "parameter $1: cannot convert between the Rust type `i32` and the Postgres type `jsonb`; it takes \
             `serde_json::Value` or `Json<T>` (by a feature), or a cast in the SQL (`$1::…`)",
            "the SQL text contains a zero byte",
            "column `list` (0) has a NULL within: read what may be one as an `Option`, an array as a `Vec<Option<…>>`",
            "column `age` (0): cannot convert between the Rust type `alloc::string::String` and the Postgres type \
             `interval`; cast the expression to text in the SQL, or read it as a `RawValue`",
            "parameter $1: cannot convert between the Rust type `&str` and the Postgres type `interval`; give it as \
             text (`$1::text::interval` in the SQL) or as a `RawValue`",
        ];
        let answer = trial.value(json!(null)).await;
        let answer: Vec<&str> = answer.as_array().unwrap().iter().map(|said| said.as_str().unwrap()).collect();
        assert_eq!(answer.len(), said.len(), "{answer:?}");
        for (answer, said) in answer.iter().zip(said) {
            assert!(answer.ends_with(said), "{answer:?} instead of {said:?}");
        }
        assert_eq!(database.count("things").await, 1);
    }
}
