//! What permissions allow and refuse, and what they put in force.

use super::*;
use crate::database::server_error::ServerError;

fn permission(config: PermissionConfig) -> Permission {
    Permission::new("orders", "default", &config, ["select 1".to_owned()])
}

fn kinds_of(list: &[StatementKind]) -> Statements {
    Statements::Kinds(list.iter().copied().collect())
}

fn refusal(permission: &Permission, sql: &str) -> Option<String> {
    match permission.judge(sql) {
        Ok(()) => None,
        Err(Error::Denied(text)) => Some(text),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn nothing_is_refused_that_nothing_restricts() {
    let capped = PermissionConfig {
        rows_max: Some(1),
        ..PermissionConfig::default()
    };
    for permission in [permission(PermissionConfig::default()), permission(capped)] {
        for sql in [
            "set role x",
            "drop table t",
            "do $$$$",
            "commit",
            "select '\\' '",
        ] {
            assert_eq!(refusal(&permission, sql), None, "{sql}");
        }
    }
}

#[test]
fn beside_a_role_only_data_can_be_touched() {
    let permission = permission(PermissionConfig {
        role: Some("app".to_owned()),
        ..PermissionConfig::default()
    });
    for sql in [
        "select 1",
        "delete from t",
        "set work_mem = '1MB'",
        "savepoint a",
    ] {
        assert_eq!(refusal(&permission, sql), None, "{sql}");
    }
    for (sql, word) in [
        ("drop table t", "ddl"),
        ("commit", "transaction"),
        ("do $$$$", "code"),
        ("vacuum", "other"),
        ("set role x", "changes role"),
        ("select set_config($1, $2, false)", "does not name"),
        ("select query_to_xml($1, true, true, '')", "query_to_xml"),
        ("select '\\'", "E'…'"),
    ] {
        let text = refusal(&permission, sql).expect(sql);
        assert!(text.contains(word), "{text}");
        assert!(
            text.contains("[function.orders.database.default]"),
            "{text}"
        );
    }
}

#[test]
fn listed_kinds_are_allowed_and_no_others() {
    let some = permission(PermissionConfig {
        statements: kinds_of(&[
            StatementKind::Select,
            StatementKind::Set,
            StatementKind::Transaction,
        ]),
        ..PermissionConfig::default()
    });
    for sql in ["select 1", "set role x", "begin; select 1; commit"] {
        assert_eq!(refusal(&some, sql), None, "{sql}");
    }
    let text = refusal(&some, "select 1; delete from t").expect("delete is not listed");
    assert_eq!(
        text,
        "[function.orders.database.default] does not allow this kind of statement: delete (allowed: select, set, \
         transaction); if it is meant to, list it in `statements` there"
    );
    assert!(refusal(&some, "select query_to_xml('', true, true, '')").is_some());
    let code = permission(PermissionConfig {
        statements: kinds_of(&[StatementKind::Select, StatementKind::Code]),
        ..PermissionConfig::default()
    });
    assert_eq!(
        refusal(&code, "select query_to_xml('', true, true, '')"),
        None
    );
    assert_eq!(refusal(&code, "do $$$$"), None);
    assert!(refusal(&code, "set role x").is_some());
}

/// What the host finds in a text is what the server finds there only while these stay as they are.
#[test]
fn nobody_changes_how_texts_are_read() {
    let some = permission(PermissionConfig {
        statements: kinds_of(&[StatementKind::Select, StatementKind::Set]),
        ..PermissionConfig::default()
    });
    for sql in ["set search_path = x", "reset all", "set time zone 'UTC'"] {
        assert_eq!(refusal(&some, sql), None, "{sql}");
    }
    for sql in [
        "set client_encoding = 'sjis'",
        "set names 'sjis'",
        "reset client_encoding",
        "set local standard_conforming_strings = off",
        "set backslash_quote = on",
        "select set_config('Client_Encoding', 'sjis', false)",
        "select set_config('role', 'x', true), set_config('backslash_quote', 'on', true)",
        "select set_config($1, $2, false)",
        "update pg_settings set setting = 'x'",
    ] {
        assert!(refusal(&some, sql).is_some(), "{sql}");
    }
}

#[test]
fn what_is_allowed_hides_nothing_that_is_not() {
    let some = permission(PermissionConfig {
        statements: kinds_of(&[StatementKind::Select, StatementKind::Set]),
        ..PermissionConfig::default()
    });
    let allowed = "select set_config('role', 'none', true)";
    assert_eq!(refusal(&some, allowed), None);
    for (sql, word) in [
        ("select '\\''; delete from t; --'", "E'…'"),
        ("select U&\"x\"()", "U&"),
        ("select query_to_xml('', true, true, '')", "query_to_xml"),
        ("select lo_unlink(1)", "lo_unlink"),
        ("execute s1", "EXECUTE"),
        ("delete from t", "delete"),
    ] {
        for sql in [format!("{allowed}; {sql}"), format!("reset role; {sql}")] {
            let text = refusal(&some, &sql).expect(&sql);
            assert!(text.contains(word), "{text}");
        }
    }
}

#[test]
fn a_refusal_advises_only_what_can_be_done() {
    let role = permission(PermissionConfig {
        role: Some("app".to_owned()),
        ..PermissionConfig::default()
    });
    for sql in [
        "do $$$$",
        "commit",
        "select ('select 1'::text).ts_stat",
        "create function f() returns int language sql as 'select 1'",
    ] {
        let text = refusal(&role, sql).expect(sql);
        assert!(text.contains("cannot be listed"), "{text}");
    }
    let text = refusal(&role, "drop table t").expect("it is no data");
    assert!(text.ends_with("list it in `statements` there"), "{text}");
}

#[test]
fn who_may_only_read_writes_by_no_function_either() {
    let reader = permission(PermissionConfig {
        read_only: true,
        ..PermissionConfig::default()
    });
    let text = refusal(&reader, "select lo_from_bytea(0, $1)").expect("it writes");
    assert!(
        text.contains("lo_from_bytea") && text.contains("allows only to read"),
        "{text}"
    );
    assert_eq!(refusal(&reader, "select lo_get(1)"), None);
    let selecting = permission(PermissionConfig {
        statements: kinds_of(&[StatementKind::Select]),
        ..PermissionConfig::default()
    });
    for sql in [
        "select lo_from_bytea(0, $1)",
        "select nextval('s')",
        "select setval('s', 1)",
        "select pg_logical_emit_message(true, 'a', 'b')",
    ] {
        assert!(refusal(&selecting, sql).is_some(), "{sql}");
        assert!(refusal(&reader, sql).is_some(), "{sql}");
    }
    let inserting = permission(PermissionConfig {
        statements: kinds_of(&[StatementKind::Select, StatementKind::Insert]),
        ..PermissionConfig::default()
    });
    assert_eq!(refusal(&inserting, "select nextval('s')"), None);
    let writer = permission(PermissionConfig {
        role: Some("app".to_owned()),
        ..PermissionConfig::default()
    });
    assert_eq!(refusal(&writer, "select lo_from_bytea(0, $1)"), None);
}

#[test]
fn a_function_that_does_what_a_statement_does_is_of_its_kind() {
    let selecting = permission(PermissionConfig {
        statements: kinds_of(&[StatementKind::Select]),
        ..PermissionConfig::default()
    });
    for (sql, kind) in [
        (
            "select set_config('statement_timeout', '0', true)",
            ": set ",
        ),
        ("select pg_notify('a', 'b')", ": listen "),
    ] {
        let text = refusal(&selecting, sql).expect(sql);
        assert!(text.contains(kind), "{text}");
        let role = permission(PermissionConfig {
            role: Some("app".to_owned()),
            ..PermissionConfig::default()
        });
        assert_eq!(refusal(&role, sql), None, "{sql}");
    }
}

#[test]
fn a_text_that_was_allowed_stays_allowed_and_no_other_with_it() {
    let permission = permission(PermissionConfig {
        role: Some("app".to_owned()),
        ..PermissionConfig::default()
    });
    let long = format!("select 1 -- {}", "x".repeat(limits::JUDGED_BYTES_MAX));
    for _ in 0..2 {
        assert_eq!(refusal(&permission, "select 1"), None);
        assert!(refusal(&permission, "select 1; set role x").is_some());
        assert!(refusal(&permission, "set role x").is_some());
        assert_eq!(refusal(&permission, &long), None);
    }
    let remembered = lock(&permission.judged);
    let texts: Vec<&String> = remembered.iter().map(|(text, ())| text).collect();
    assert_eq!(texts, ["select 1"]);
}

#[test]
fn declared_statements_are_allowed_word_for_word() {
    let permission = permission(PermissionConfig {
        statements: Statements::Declared,
        ..PermissionConfig::default()
    });
    assert_eq!(refusal(&permission, "select 1"), None);
    for sql in ["select  1", "select 1;", "SELECT 1", "", "select 2"] {
        let text = refusal(&permission, sql).expect(sql);
        assert!(text.contains("hearth::declare!"), "{text}");
    }
}

fn settings(list: &[(&str, Setting)]) -> PermissionConfig {
    PermissionConfig {
        settings: list
            .iter()
            .map(|(name, setting)| ((*name).to_owned(), setting.clone()))
            .collect(),
        ..PermissionConfig::default()
    }
}

fn subject() -> Subject {
    Subject {
        request_id: "r-1".to_owned(),
        function_name: "orders".to_owned(),
        tenant_id: Some("o'neil\\".to_owned()),
        identity: Some(
            r#"{"id": "x", "n": 7, "nothing": null, "empty": "", "deep": {"a": [true]}}"#
                .to_owned(),
        ),
    }
}

#[test]
fn settings_are_made_from_the_event() {
    let identity = |pointer: &str| Setting::Identity(pointer.to_owned());
    let permission = permission(PermissionConfig {
        role: Some("app".to_owned()),
        read_only: true,
        ..settings(&[
            ("app.tenant", Setting::Tenant),
            ("app.user", identity("/id")),
            ("app.level", identity("/n")),
            ("app.flag", identity("/deep/a/0")),
            ("app.kind", Setting::Text("shop".to_owned())),
            ("app.request", Setting::RequestId),
            ("app.function", Setting::FunctionName),
        ])
    });
    let made = permission
        .prelude(&subject())
        .expect("the event brings it all");
    let prelude = made.expect("there are settings");
    let arguments = prelude.command.texts();
    let sql = &prelude.command.sql;
    assert!(sql.starts_with(
        "SELECT pg_catalog.set_config($1::pg_catalog.text, $2::pg_catalog.text, true), "
    ));
    assert_eq!(
        arguments,
        [
            "role",
            "none",
            "app.flag",
            "true",
            "app.function",
            "orders",
            "app.kind",
            "shop",
            "app.level",
            "7",
            "app.request",
            "r-1",
            "app.tenant",
            "o'neil\\",
            "app.user",
            "x",
            "transaction_read_only",
            "on",
            "role",
            "app"
        ]
    );
    let batch = prelude.before("select é");
    assert!(
        batch.contains("set_config(E'app.tenant', E'o''neil\\\\', true)"),
        "{batch}"
    );
    let at = batch.chars().position(|c| c == 'é').expect("it is there") as u32 + 1;
    let error = Error::Server(Box::new(ServerError {
        position: Some(at),
        ..ServerError::default()
    }));
    let Error::Server(error) = prelude.unshifted(error) else {
        panic!("it is another error");
    };
    assert_eq!(error.position, Some(8));
}

#[test]
fn no_settings_need_no_prelude() {
    let nothing = permission(PermissionConfig::default());
    let prelude = nothing.prelude(&Subject::default());
    assert_eq!(prelude.expect("nothing is missing"), None);
}

#[test]
fn a_value_that_the_event_does_not_bring_is_an_error() {
    let identity = |pointer: &str| Setting::Identity(pointer.to_owned());
    let without = Subject::default();
    let long = Subject {
        tenant_id: Some("x".repeat(limits::SETTING_BYTES_MAX + 1)),
        ..Subject::default()
    };
    let zero = Subject {
        identity: Some(r#"{"id": "a\u0000b"}"#.to_owned()),
        ..Subject::default()
    };
    for (setting, subject) in [
        (Setting::Tenant, &without),
        (Setting::Tenant, &long),
        (identity("/id"), &without),
        (identity("/id"), &zero),
        (identity("/nothing"), &subject()),
        (identity("/empty"), &subject()),
        (identity("/deep"), &subject()),
        (identity("/absent"), &subject()),
    ] {
        let permission = permission(settings(&[("app.tenant", setting)]));
        let error = permission.prelude(subject).expect_err("it is not there");
        assert!(matches!(error, Error::Denied(_)), "{error}");
        assert!(error.to_string().contains("app.tenant"), "{error}");
    }
}
