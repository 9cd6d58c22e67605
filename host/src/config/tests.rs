//! What a configuration means, and every error with its exact text.

use super::*;
use crate::limits;
use std::time::Duration;

// This folder holds `Cargo.toml`, which serves as a component that exists.
const DIRECTORY: &str = env!("CARGO_MANIFEST_DIR");

fn variables(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("t0ken".to_owned()),
        "ORDERS_DATABASE_URL" => Some("postgres://o:secret@db/orders".to_owned()),
        "BROKEN_URL" => Some("postgres://o:secret@db:1:2".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse_with(text: &str, variables: Variables<'_>) -> Result<Config, ConfigError> {
    parse_for(text, variables, &[])
}

fn parse_for(text: &str, variables: Variables<'_>, only: &[&str]) -> Result<Config, ConfigError> {
    let source = Source::new(
        Path::new("hearth.toml"),
        text,
        Path::new(DIRECTORY),
        variables,
    );
    Config::parse(&source, only)
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, &variables)
}

fn problem(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

const FULL: &str = r#"
[log]
format = "json"
level = "debug"

[function.hello]
component = "Cargo.toml"
isolation = { concurrent = 16 }
instances_max = 3
memory_mib = 64
temporary_mib = 16
timeout_ms = 1_500
databases = ["default", "orders", "default"]
environment = { GREETING = "hi", TOKEN = { variable = "TOKEN" } }
retire = { invocations = 10, age_s = 60, memory_mib = 48 }
response = "http-stream"
after_answer = "suspend"

[database.orders]
url = { variable = "ORDERS_DATABASE_URL" }
pool_max = 2
lifetime_s = 900
connect_timeout_ms = 250
statements_max = 0x10
reset = "always"
setup = ["schema.sql", "/seed.sql"]
"#;

#[test]
fn everything_that_is_said_is_kept() {
    let config = parse(FULL).unwrap();
    assert_eq!(
        config.log,
        LogConfig {
            format: LogFormat::Json,
            level: LogLevel::Debug
        }
    );
    let hello = &config.functions["hello"];
    assert_eq!(hello.component, Path::new(DIRECTORY).join("Cargo.toml"));
    assert_eq!(hello.isolation, Isolation::Concurrent(16));
    assert_eq!((hello.instances_max, hello.memory_mib), (3, 64));
    assert_eq!(hello.temporary_mib, Some(16));
    assert_eq!(hello.timeout, Duration::from_millis(1500));
    assert_eq!(hello.databases, ["default", "orders"]);
    assert_eq!(hello.environment["GREETING"], "hi");
    assert_eq!(hello.environment["TOKEN"], "t0ken");
    let retire = Retire {
        invocations: 10,
        age: Duration::from_secs(60),
        memory_mib: Some(48),
    };
    assert_eq!(hello.retire, retire);
    let forms = (hello.response, hello.after_answer);
    assert_eq!(forms, (ResponseForm::HttpStream, AfterAnswer::Suspend));
    let orders = &config.databases["orders"];
    assert_eq!(orders.url.as_deref(), Some("postgres://o:secret@db/orders"));
    assert_eq!((orders.pool_max, orders.statements_max), (2, 16));
    assert_eq!(orders.lifetime, Duration::from_secs(900));
    assert_eq!(orders.connect_timeout, Duration::from_millis(250));
    assert_eq!(orders.reset, Reset::Always);
    assert_eq!(
        orders.setup,
        [
            Path::new(DIRECTORY).join("schema.sql"),
            PathBuf::from("/seed.sql")
        ]
    );
    assert!(config.uses_database("default") && config.uses_database("orders"));
}

#[test]
fn a_password_is_kept_as_where_it_comes_from() {
    let orders = |lines: &str| {
        let text = format!(
            "[function.a]\ncomponent = 'Cargo.toml'\n[database.orders]\nurl = 'host=db'\n{lines}"
        );
        parse(&text).unwrap().databases["orders"].clone()
    };
    let command = vec!["get".to_owned(), "secret".to_owned()];
    #[rustfmt::skip]
    let cases = [
        ("", None),
        ("iam = false", None),
        ("password = { file = 'p' }", Some(PasswordSource::File(Path::new(DIRECTORY).join("p")))),
        ("password = { variable = 'NOT_SET' }", Some(PasswordSource::Variable("NOT_SET".to_owned()))),
        ("password = { command = ['get', 'secret'] }", Some(PasswordSource::Command(command))),
        ("iam = true", Some(PasswordSource::Iam { region: None })),
        ("iam = { region = 'r' }", Some(PasswordSource::Iam { region: Some("r".to_owned()) })),
    ];
    for (line, expected) in cases {
        assert_eq!(orders(line).password, expected, "{line}");
    }
    let debug = format!("{:?}", orders("password = { command = ['get', 'sesame'] }"));
    assert!(
        debug.contains("get") && !debug.contains("sesame"),
        "{debug}"
    );
    let tls = orders("tls = { ca = '/rds.pem', verify = 'ca' }").tls;
    let expected = TlsConfig {
        ca: Some("/rds.pem".into()),
        verify: Some(Verify::Ca),
    };
    assert_eq!(tls, Some(expected));
    assert_eq!(orders("tls = {}").tls, Some(TlsConfig::default()));
}

#[test]
fn a_mistake_in_how_to_log_in_is_said_in_one_line() {
    let source = "database.orders.password: expected { file = \"...\" }, { variable = \"NAME\" } or \
         { command = [\"...\"] }; a password itself goes into the url";
    #[rustfmt::skip]
    let cases = [
        ("password = 'sesame'", source),
        ("password = { file = 'a', variable = 'B' }", source),
        ("password = {}", source),
        ("password = { file = '' }", "database.orders.password.file: expected text that is not empty, got \"\""),
        ("password = { command = [] }", "database.orders.password.command: expected a program, and its arguments"),
        ("password = { env = 'A' }", "unknown key \"env\" in [database.orders.password]; known are file, variable, command"),
        ("iam = 'yes'", "database.orders.iam: expected true, false or { region = \"eu-central-1\" }, got \"yes\""),
        ("iam = { regoin = 'x' }", "unknown key \"regoin\" in [database.orders.iam]; did you mean \"region\"?"),
        ("tls = true", "database.orders.tls: expected a section, got true"),
        ("tls = { verify = 'none' }", "database.orders.tls.verify: expected \"full\", \"ca\" or \"nothing\", got \"none\""),
    ];
    for (line, expected) in cases {
        let text = format!("[database.orders]\nurl = 'host=db'\n{line}");
        assert_eq!(
            problem(&text),
            format!("hearth.toml:3: {expected}"),
            "{line}"
        );
    }
    let both = "[database.orders]\nurl = 'host=db'\niam = true\npassword = { file = 'p' }";
    let twice = "[database.orders]\nurl = 'postgres://u:sesame@db'\npassword = { file = 'p' }";
    #[rustfmt::skip]
    let cases = [
        (both, "hearth.toml:4: database.orders.password: with `iam` there is no password; leave one out"),
        (twice, "hearth.toml:3: database.orders.password: the url has a password already; take it out there"),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn everything_unsaid_has_its_default() {
    let config = parse("[function.hello]\ncomponent = 'Cargo.toml'").unwrap();
    assert_eq!(config.log, LogConfig::default());
    let hello = &config.functions["hello"];
    assert_eq!(hello.isolation, Isolation::Serial);
    let forms = (hello.response, hello.after_answer);
    assert_eq!(forms, (ResponseForm::Buffered, AfterAnswer::Finish));
    assert_eq!(hello.instances_max, limits::INSTANCES_DEFAULT);
    assert_eq!(hello.memory_mib, limits::MEMORY_MIB_DEFAULT);
    assert_eq!(hello.temporary_mib, None);
    assert_eq!(hello.timeout, limits::TIMEOUT_DEFAULT);
    assert!(hello.databases.is_empty() && hello.environment.is_empty());
    assert_eq!(hello.retire, Retire::default());
    assert!(config.databases.is_empty());
}

#[test]
fn the_default_database_needs_no_section_and_takes_database_url() {
    let used = "[function.hello]\ncomponent = 'Cargo.toml'\ndatabases = ['default']";
    let sectioned = format!("{used}\n[database.default]\npool_max = 1");
    for text in [used, &sectioned] {
        let config = parse(text).unwrap();
        assert_eq!(config.databases["default"].url, None, "{text}");
        let config = parse_with(text, &|name| {
            (name == "DATABASE_URL").then(|| "host=/run".to_owned())
        });
        assert_eq!(
            config.unwrap().databases["default"].url.as_deref(),
            Some("host=/run"),
            "{text}"
        );
        let error = parse_with(text, &|name| {
            (name == "DATABASE_URL").then(|| "sesame".to_owned())
        });
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(
            "hearth.toml: the environment variable DATABASE_URL is no PostgreSQL address"
        ));
        assert!(!error.contains("sesame"), "{error}");
    }
}

#[test]
fn lambdas_log_settings_win_over_the_file() {
    #[rustfmt::skip]
    let cases = [
        ("JSON", "FATAL", LogFormat::Json, LogLevel::Fatal),
        ("json", "trace", LogFormat::Json, LogLevel::Trace),
        ("Text", "DEBUG", LogFormat::Text, LogLevel::Debug),
        ("", "", LogFormat::Text, LogLevel::Warn),
        ("xml", "loud", LogFormat::Text, LogLevel::Warn),
    ];
    for (format, level, expected_format, expected_level) in cases {
        let text = "[log]\nlevel = 'warn'\n[function.a]\ncomponent = 'Cargo.toml'";
        let config = parse_with(text, &|name| match name {
            "AWS_LAMBDA_LOG_FORMAT" => Some(format.to_owned()),
            "AWS_LAMBDA_LOG_LEVEL" => Some(level.to_owned()),
            _ => None,
        });
        let expected = LogConfig {
            format: expected_format,
            level: expected_level,
        };
        assert_eq!(config.unwrap().log, expected, "{format} {level}");
    }
}

#[test]
fn variables_win_over_what_the_file_says_of_metrics() {
    let text =
        "[log]\nmetrics = 'emf'\nmetrics_namespace = 'Own'\n[function.a]\ncomponent = 'Cargo.toml'";
    let read = |metrics: &str, namespace: &str| {
        let config = parse_with(text, &|name| match name {
            "HEARTH_METRICS" => Some(metrics.to_owned()),
            "HEARTH_METRICS_NAMESPACE" => Some(namespace.to_owned()),
            _ => None,
        });
        match config {
            Ok(config) => Ok(config.metrics.map(|metrics| metrics.namespace)),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(read("", ""), Ok(Some("Own".to_owned())));
    assert_eq!(read("EMF", "Shop"), Ok(Some("Shop".to_owned())));
    assert_eq!(read("off", ""), Ok(None));
    let error = read("on", "").unwrap_err();
    assert!(
        error.ends_with("HEARTH_METRICS: expected one of off, emf, got \"on\""),
        "{error}"
    );
    let error = read("emf", "AWS/X").unwrap_err();
    assert!(
        error.contains("HEARTH_METRICS_NAMESPACE: expected a name that"),
        "{error}"
    );
}

#[test]
fn secrets_are_in_no_debug_output() {
    let debug = format!("{:?}", parse(FULL).unwrap());
    assert!(
        debug.contains("TOKEN") && debug.contains("(not shown)"),
        "{debug}"
    );
    assert!(
        !debug.contains("t0ken") && !debug.contains("secret"),
        "{debug}"
    );
}

#[test]
fn a_mistake_outside_a_function_is_said_in_one_line() {
    let long = format!("[function.{}]\ncomponent = 'Cargo.toml'", "x".repeat(65));
    #[rustfmt::skip]
    let cases = [
        (
            "",
            "hearth.toml: there is no function; add a section like [function.hello] with component = \"hello.wasm\"",
        ),
        (
            "[functions.hello]",
            "hearth.toml:1: unknown key \"functions\" at the top level; did you mean \"function\"?",
        ),
        (
            "\n\nzebra = 1",
            "hearth.toml:3: unknown key \"zebra\" at the top level; known are log, lambda, function, database",
        ),
        (
            "[log]\nlevel = 'inof'",
            "hearth.toml:2: log.level: expected one of trace, debug, info, warn, error, fatal (perhaps \"info\"), got \"inof\"",
        ),
        ("[log]\nformat = 'xml'", "hearth.toml:2: log.format: expected one of text, json, got \"xml\""),
        ("[log]\nmetrics = 'enf'", "hearth.toml:2: log.metrics: expected one of off, emf (perhaps \"emf\"), got \"enf\""),
        (
            "[log]\nmetrics_namespace = 'AWS/Lambda'",
            "hearth.toml:2: log.metrics_namespace: expected a name that does not begin with AWS/, which is Amazon's, \
             got \"AWS/Lambda\"",
        ),
        (
            "[log]\nmetrics_namespace = 'a:b'",
            "hearth.toml:2: log.metrics_namespace: expected at most 255 letters, digits, spaces and . - _ / #, got \"a:b\"",
        ),
        ("[log]\nformat = 3", "hearth.toml:2: log.format: expected text in quotes, got 3"),
        ("log = 'x'", "hearth.toml:1: log: expected a section, got \"x\""),
        ("function = []", "hearth.toml:1: function: expected a section, got a list"),
        ("[function]\nhello = 'a.wasm'", "hearth.toml:2: function.hello: expected a section, got \"a.wasm\""),
        (
            "[function.'a b']\ncomponent = 'Cargo.toml'",
            "hearth.toml:1: function.a b: expected a name of 1 to 64 letters, digits, - and _, got \"a b\"",
        ),
        (
            &long,
            &format!(
                "hearth.toml:1: function.{0}: expected a name of 1 to 64 letters, digits, - and _, got \"{0}\"",
                "x".repeat(65)
            ),
        ),
        (
            "[database.default]\n\nurll = 'x'",
            "hearth.toml:3: unknown key \"urll\" in [database.default]; did you mean \"url\"?",
        ),
        (
            "[database.orders]",
            "hearth.toml:1: database.orders: url is missing: postgres://user:password@host:port/database, or { variable = \"NAME\" }",
        ),
        (
            "[database.orders]\nurl = { variable = 'NO_SUCH' }",
            "hearth.toml:2: database.orders.url: the environment variable NO_SUCH is not set, or is empty; set it before starting",
        ),
        (
            "[database.orders]\nurl = { variable = 'EMPTY' }",
            "hearth.toml:2: database.orders.url: the environment variable EMPTY is not set, or is empty; set it before starting",
        ),
        (
            "[database.orders]\nurl = { var = 'X' }",
            "hearth.toml:2: unknown key \"var\" in [database.orders.url]; did you mean \"variable\"?",
        ),
        (
            "[database.orders]\nurl = {}",
            "hearth.toml:2: database.orders.url: expected text in quotes or { variable = \"NAME\" }, got a table",
        ),
        (
            "[database.orders]\nurl = 42",
            "hearth.toml:2: database.orders.url: expected text in quotes or { variable = \"NAME\" }, got a value of type integer",
        ),
        (
            "[database.default]\npool_max = 0",
            "hearth.toml:2: database.default.pool_max: expected a whole number from 1 to 1000, got 0",
        ),
        (
            "[database.default]\npool_max = 2\nwarm = 3",
            "hearth.toml:3: database.default.warm: expected a whole number from 0 to 2, which is pool_max, got 3",
        ),
        (
            "[lambda]\ndrain_timeout_ms = 60_000",
            "hearth.toml:2: lambda.drain_timeout_ms: expected a whole number from 1 to 10000, got 60000",
        ),
        (
            "[lambda]\ninit_timeout_ms = 900_001",
            "hearth.toml:2: lambda.init_timeout_ms: expected a whole number from 1 to 900000, got 900001",
        ),
        (
            "[lambda]\nrestore_timeout_ms = 10_001",
            "hearth.toml:2: lambda.restore_timeout_ms: expected a whole number from 1 to 10000, got 10001",
        ),
        (
            "[database.default]\nlifetime_s = 0",
            "hearth.toml:2: database.default.lifetime_s: expected a whole number from 1 to 4294967295, got 0",
        ),
        (
            "[database.default]\nconnect_timeout_ms = 900_001",
            "hearth.toml:2: database.default.connect_timeout_ms: expected a whole number from 1 to 900000, got 900001",
        ),
        (
            "[database.default]\nstatements_max = -1",
            "hearth.toml:2: database.default.statements_max: expected a whole number from 1 to 10000, got -1",
        ),
        (
            "[database.default]\nreset = 'never'",
            "hearth.toml:2: database.default.reset: expected \"auto\" or \"always\", got \"never\"",
        ),
        (
            "[database.default]\nsetup = 'schema.sql'",
            "hearth.toml:2: database.default.setup: expected a list of texts, like [\"one\", \"two\"], got \"schema.sql\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn a_mistake_in_a_function_is_said_in_one_line() {
    #[rustfmt::skip]
    let cases = [
        ("memory_mb = 1", "unknown key \"memory_mb\" in [function.hello]; did you mean \"memory_mib\"?"),
        ("timeout = 1", "unknown key \"timeout\" in [function.hello]; did you mean \"timeout_ms\"?"),
        (
            "zebra = 1",
            "unknown key \"zebra\" in [function.hello]; known are component, isolation, instances_max, memory_mib, temporary_mib, timeout_ms, databases, database, environment, retire, response, after_answer",
        ),
        (
            "response = 'streamed'",
            "function.hello.response: expected one of \"buffered\", \"stream\", \"http-stream\" (perhaps \"stream\"), got \"streamed\"",
        ),
        (
            "after_answer = true",
            "function.hello.after_answer: expected one of \"finish\", \"suspend\", \"await\", got true",
        ),
        (
            "isolation = 'serail'",
            "function.hello.isolation: expected \"fresh\", \"serial\" or { concurrent = 16 }, got \"serail\"",
        ),
        (
            "isolation = {}",
            "function.hello.isolation: expected \"fresh\", \"serial\" or { concurrent = 16 }, got a table",
        ),
        (
            "isolation = { concurrent = 0 }",
            "function.hello.isolation.concurrent: expected a whole number from 1 to 1000, got 0",
        ),
        (
            "isolation = { parallel = 2 }",
            "unknown key \"parallel\" in [function.hello.isolation]; known are concurrent",
        ),
        (
            "instances_max = 1001",
            "function.hello.instances_max: expected a whole number from 1 to 1000, got 1001",
        ),
        (
            "memory_mib = 'many'",
            "function.hello.memory_mib: expected a whole number from 1 to 4096, got \"many\"",
        ),
        ("memory_mib = 1.5", "function.hello.memory_mib: expected a whole number from 1 to 4096, got 1.5"),
        (
            "temporary_mib = 4097",
            "function.hello.temporary_mib: expected a whole number from 1 to 4096, got 4097",
        ),
        (
            "memory_mib = 99999999999999999999",
            "function.hello.memory_mib: expected a whole number from 1 to 4096, got 99999999999999999999",
        ),
        (
            "timeout_ms = 900001",
            "function.hello.timeout_ms: expected a whole number from 1 to 900000, got 900001",
        ),
        (
            "databases = 'default'",
            "function.hello.databases: expected a list of texts, like [\"one\", \"two\"], got \"default\"",
        ),
        (
            "databases = [1]",
            "function.hello.databases: expected a list of texts, like [\"one\", \"two\"], got a list with 1 in it",
        ),
        (
            "databases = { default = { role = 'r' } }",
            "function.hello.databases: expected a list of names, got a section; did you mean \
             [function.hello.database.default]?",
        ),
        (
            "databases = {}",
            "function.hello.databases: expected a list of texts, like [\"one\", \"two\"], got a table",
        ),
        (
            "databases = ['orders']",
            "function.hello.databases: there is no database \"orders\"; add a section [database.orders]",
        ),
        (
            "databases = ['defualt']",
            "function.hello.databases: there is no database \"defualt\"; did you mean \"default\"?",
        ),
        (
            "databases = ['defualt']\n[database.default]",
            "function.hello.databases: there is no database \"defualt\"; did you mean \"default\"?",
        ),
        ("environment = 'x'", "function.hello.environment: expected a section, got \"x\""),
        (
            "environment = { A = 5 }",
            "function.hello.environment.A: expected text in quotes or { variable = \"NAME\" }, got a value of type integer",
        ),
        (
            "environment = { A = { variable = 'NO_SUCH' } }",
            "function.hello.environment.A: the environment variable NO_SUCH is not set, or is empty; set it before starting",
        ),
        (
            "environment = { 'A=B' = '' }",
            "function.hello.environment.A=B: a variable's name must not be empty, nor contain =",
        ),
        (
            "retire = { invocations = 0 }",
            "function.hello.retire.invocations: expected a whole number of at least 1, got 0",
        ),
        (
            "retire = { age_s = 0 }",
            "function.hello.retire.age_s: expected a whole number from 1 to 4294967295, got 0",
        ),
        (
            "retire = { memory_mib = 129 }",
            "function.hello.retire.memory_mib: expected a whole number from 1 to 128, which is the function's memory_mib, got 129",
        ),
        ("retire = { age = 1 }", "unknown key \"age\" in [function.hello.retire]; did you mean \"age_s\"?"),
        ("retire = 5", "function.hello.retire: expected a section, got 5"),
        (
            "database = { defualt = {} }\n[database.default]",
            "function.hello.database.defualt: there is no database \"defualt\"; did you mean \"default\"?",
        ),
        (
            "database = { default = { rol = 'x' } }",
            "unknown key \"rol\" in [function.hello.database.default]; did you mean \"role\"?",
        ),
        (
            "database = { default = { role = 'NONE' } }",
            "function.hello.database.default.role: expected the name of a role, got \"NONE\"",
        ),
        (
            "database = { default = { read_only = 'yes' } }",
            "function.hello.database.default.read_only: expected true or false, got \"yes\"",
        ),
        (
            "database = { default = { rows_max = 0 } }",
            "function.hello.database.default.rows_max: expected a whole number of at least 1, got 0",
        ),
        (
            "database = { default = { statements = 'declarde' } }",
            "function.hello.database.default.statements: expected \"declared\" or a list like [\"select\", \"insert\"], got \"declarde\"",
        ),
        (
            "database = { default = { statements = ['slect'] } }",
            "function.hello.database.default.statements: there is no kind of statement \"slect\"; did you mean \"select\"?",
        ),
        (
            "database = { default = { settings = { role = 'x' } } }",
            "function.hello.database.default.settings.role: this is no setting to give here: use `role`",
        ),
        (
            "database = { default = { settings = { 'app.t' = { context = 'tenant-id' }, 'App.T' = 'x' } } }",
            "function.hello.database.default.settings.app.t: given twice, but for upper and lower case; leave one out",
        ),
        (
            "database = { default = { settings = { 'app.tenant' = { context = 'tenant' } } } }",
            "function.hello.database.default.settings.app.tenant.context: an event has no \"tenant\"; did you mean \"tenant-id\"?",
        ),
        (
            "database = { default = { settings = { 'app.user' = { context = 'identity' } } } }",
            "function.hello.database.default.settings.app.user: pointer is missing: which part of the identity, like \"/cognitoIdentityId\"",
        ),
        (
            "database = { default = { settings = { 'app.user' = { context = 'tenant-id', pointer = '/x' } } } }",
            "function.hello.database.default.settings.app.user.pointer: only context = \"identity\" has parts to point into",
        ),
        (
            "database = { default = { settings = { 'app.user' = '' } } }",
            "function.hello.database.default.settings.app.user: expected a text that is not empty, nor very long, got \"\"",
        ),
    ];
    for (line, expected) in cases {
        let text = format!("[function.hello]\ncomponent = 'Cargo.toml'\n\n{line}");
        assert_eq!(
            problem(&text),
            format!("hearth.toml:4: {expected}"),
            "{line}"
        );
    }
}

#[test]
fn a_permission_says_what_a_function_may_do() {
    let text = r#"
[function.hello]
component = "Cargo.toml"
databases = ["other"]

[function.hello.database.default]
role = "app"
read_only = true
rows_max = 1000
bytes_max = 1_048_576
statements = ["select", "copy"]
settings = { "App.Tenant" = { context = "tenant-id" }, "app.user" = { context = "identity", pointer = "/id" }, "app.kind" = "shop" }

[database.other]
url = "postgres://o@db/other"
"#;
    let config = parse(text).unwrap();
    let function = &config.functions["hello"];
    assert_eq!(function.databases, ["other", "default"]);
    assert!(config.databases.contains_key("default"));
    let permission = &function.permissions["default"];
    assert_eq!(permission.role.as_deref(), Some("app"));
    assert!(permission.read_only && permission.has_state());
    assert_eq!(
        (permission.rows_max, permission.bytes_max),
        (Some(1000), Some(1 << 20))
    );
    let Statements::Kinds(kinds) = permission.statements else {
        panic!("{:?}", permission.statements);
    };
    assert_eq!(kinds.to_string(), "select, copy");
    assert_eq!(permission.settings["app.tenant"], Setting::Tenant);
    assert_eq!(
        permission.settings["app.user"],
        Setting::Identity("/id".to_owned())
    );
    assert_eq!(
        permission.settings["app.kind"],
        Setting::Text("shop".to_owned())
    );
    assert!(!function.permissions.contains_key("other"));
}

#[test]
fn what_could_undo_a_permission_cannot_stand_beside_it() {
    for state in [
        "role = 'app'",
        "read_only = true",
        "settings = { \"app.kind\" = 'shop' }",
    ] {
        for kind in ["transaction", "code"] {
            let text = format!(
                "[function.hello]\ncomponent = 'Cargo.toml'\n[function.hello.database.default]\n\
                 {state}\nstatements = ['select', '{kind}']"
            );
            let problem = problem(&text);
            let expected = format!(
                "hearth.toml:5: function.hello.database.default.statements: {kind:?} cannot stand beside"
            );
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
    let text = "[function.hello]\ncomponent = 'Cargo.toml'\n[function.hello.database.default]\n\
                rows_max = 1\nstatements = ['transaction', 'code']";
    assert!(parse(text).is_ok());
}

#[test]
fn a_component_must_be_named_and_be_there() {
    assert_eq!(
        problem("\n[function.hello]\n"),
        "hearth.toml:2: function.hello: component is missing: the path of the guest's .wasm or .cwasm file"
    );
    assert_eq!(
        problem("[function.hello]\ncomponent = 'none.wasm'"),
        format!(
            "hearth.toml:2: function.hello.component: there is no file {DIRECTORY}/none.wasm; build the guest first, or correct the path"
        )
    );
    assert_eq!(
        problem("[function.hello]\ncomponent = 'src'"),
        format!(
            "hearth.toml:2: function.hello.component: {DIRECTORY}/src is a folder; name the .wasm or .cwasm file in it"
        )
    );
}

#[test]
fn what_does_not_run_here_need_not_be_there() {
    let text = "[function.here]\ncomponent = 'Cargo.toml'\ndatabases = ['own']\n\
                [function.there]\ncomponent = 'none.wasm'\ndatabases = ['other']\n\
                environment = { A = { variable = 'UNSET' }, B = 'b' }\n\
                [database.own]\nurl = 'host=db'\n[database.other]\nurl = { variable = 'UNSET' }";
    let problem = |only: &[&str], text: &str| match parse_for(text, &variables, only) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(problem(&["here"], text), "none");
    assert!(problem(&[], text).contains("UNSET is not set"));
    assert!(problem(&["there"], text).contains("there is no file"));
    assert!(problem(&["here", "there"], text).contains("there is no file"));
    let present = text.replace("none.wasm", "Cargo.toml");
    assert!(problem(&["there"], &present).contains("function.there.environment.A"));
    let set = present.replace("A = { variable = 'UNSET' }, ", "");
    assert!(problem(&["there"], &set).contains("database.other.url"));
    // A mistake is one wherever it stands.
    let more = |line: &str| format!("{text}\n{line}");
    assert!(problem(&["here"], &more("pool_mix = 1")).contains("did you mean"));
    let mistyped = text.replace("databases = ['other']", "databases = ['othre']");
    assert!(problem(&["here"], &mistyped).contains("there is no database"));
}

#[test]
fn functions_that_are_kept_keep_their_databases() {
    let text = "[function.a]\ncomponent = 'Cargo.toml'\ndatabases = ['default', 'one']\n\
                [function.b]\ncomponent = 'Cargo.toml'\ndatabases = ['two']\n\
                [function.c]\ncomponent = 'Cargo.toml'\n\
                [database.one]\nurl = 'host=db'\n[database.two]\nurl = 'host=db'\n\
                [database.three]\nurl = 'host=db'";
    let kept = |names: &[&str]| {
        let mut config = parse(text).unwrap();
        config.keep(names);
        let functions: Vec<String> = config.functions.into_keys().collect();
        assert_eq!(functions, names);
        config.databases.into_keys().collect::<Vec<String>>()
    };
    assert_eq!(kept(&["a"]), ["default", "one"]);
    assert_eq!(kept(&["a", "b"]), ["default", "one", "two"]);
    assert!(kept(&["c"]).is_empty());
}

#[test]
fn a_broken_address_is_not_repeated() {
    for url in [
        "'postgres://o:secret@db:port'",
        "{ variable = 'BROKEN_URL' }",
        "'sec ret'",
    ] {
        let error = problem(&format!("[database.orders]\nurl = {url}"));
        let expected =
            "hearth.toml:2: database.orders.url is no PostgreSQL address (it is not shown";
        assert!(
            error.replace("url: is", "url is").starts_with(expected),
            "{error}"
        );
        assert!(!error.contains("sec") && !error.contains("ret@"), "{error}");
    }
}

#[test]
fn a_broken_file_is_not_repeated() {
    let error = problem("[database.orders]\nurl = 'postgres://o:secret@db\npool_max = 1");
    assert!(
        error.starts_with("hearth.toml:2: is not valid TOML: "),
        "{error}"
    );
    assert!(
        !error.contains("secret") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn what_is_given_twice_is_named() {
    #[rustfmt::skip]
    let cases = [
        ("[log]\n[log]", 2, " \"log\""),
        ("[function.a]\n[function.b]\n[function.a]", 3, " \"a\""),
        ("[database.d]\nurl = 'host=db'\nurl = 'secret'", 3, " \"url\""),
        ("[function.a]\nenvironment = { A = 'secret', B = '', A = 'secret' }", 2, " \"A\""),
        ("[function.a]\nenvironment = { 'secret' = '', 'secret' = '' }", 2, ""),
    ];
    for (text, line, key) in cases {
        let expected = format!("hearth.toml:{line}: is not valid TOML: duplicate key{key}");
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn a_missing_file_says_which_path_was_tried() {
    let error = Config::load(Path::new("/no/such/hearth.toml"), &variables)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "/no/such/hearth.toml: there is no such file; write one there (`hearth` takes another one with --config)"
    );
    let error = Config::load(Path::new("/"), &variables)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/: cannot be read: "), "{error}");
}

#[test]
fn a_file_in_another_encoding_is_told_by_the_line() {
    let file = std::env::temp_dir().join(format!("hearth-latin-1-{}.toml", std::process::id()));
    std::fs::write(&file, b"[log]\n# caf\xe9\nlevel = 'info'\n").unwrap();
    let error = Config::load(&file, &variables).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    let expected = format!(
        "{}:2: is not valid UTF-8; save it in that encoding",
        file.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn a_pool_has_room_for_all_invocations_unless_its_size_is_given() {
    let room = |settings: &str, invocations| {
        let text = format!(
            "[function.f]\ncomponent = 'Cargo.toml'\n[database.d]\nurl = 'host=db'\n{settings}"
        );
        let mut database = parse(&text).unwrap().databases.remove("d").unwrap();
        database.make_room(invocations);
        database.pool_max
    };
    assert_eq!(room("", 1), limits::POOL_DEFAULT);
    assert_eq!(room("", 64), 64);
    assert_eq!(room("", limits::SLOTS_MAX), limits::POOL_MAX);
    assert_eq!(room("pool_max = 3", 64), 3);
}
