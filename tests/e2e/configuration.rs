//! What cannot run is refused at the start, in one line that names the thing; Lambda is told too.

use std::path::{Path, PathBuf};

use e2e::guests::{ECHO, QUERY};
use e2e::lambda::What;
use e2e::{Door, Host, PATIENCE, Setup, Trial, run};
use serde_json::Value;

/// The start fails with one clear line: the words are in it. On Lambda the same is posted to
/// `/init/error`, with this type.
async fn is_refused(door: Door, setup: Setup, error_type: &str, words: &[&str]) {
    let Trial { mut host, .. } = match door {
        Door::Local => setup.launch(door).await,
        Door::Lambda => {
            let mut trial = setup.launch(door).await;
            let call = trial
                .lambda()
                .call("a call of /init/error", |call| call.what == What::InitError)
                .await;
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            assert_eq!(
                call.header("lambda-runtime-function-error-type"),
                error_type,
                "{body}"
            );
            assert_eq!(body["errorType"], error_type, "{body}");
            let message = body["errorMessage"].as_str().unwrap();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
            assert!(!message.contains('\n'), "{message}");
            assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
            assert!(
                !trial
                    .lambda()
                    .calls()
                    .iter()
                    .any(|call| call.what == What::Next)
            );
            trial
        }
    };
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
    host.line(words[0]).await;
    let log = host.log();
    let errors: Vec<_> = log
        .iter()
        .filter(|line| words.iter().all(|word| line.contains(word)))
        .collect();
    assert_eq!(errors.len(), 1, "{log:#?}");
    assert!(
        !log.iter()
            .any(|line| line.contains("panicked") || line.contains("stack backtrace")),
        "{log:#?}"
    );
}

/// A file with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = run::fresh_directory().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A compiled component with something else in the place of the version and of the target that it names:
/// they stand side by side, each behind its length.
fn respelt(name: &str, change: impl Fn(&mut [u8], &mut [u8])) -> PathBuf {
    let mut bytes = std::fs::read(ECHO.compiled()).unwrap();
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let is_target = |bytes: &[u8]| bytes == target.as_bytes();
    let at = bytes.windows(target.len()).position(is_target).unwrap();
    let (before, from_target) = bytes.split_at_mut(at);
    let version = &mut before[at - 3..at - 1];
    assert!(version.iter().all(u8::is_ascii_digit), "{version:?}");
    change(version, &mut from_target[..target.len()]);
    file(name, &bytes)
}

const COMPONENT: &str = "Runtime.InvalidComponent";
const CONFIGURATION: &str = "Runtime.InvalidConfiguration";

behind_both_doors! {
    async fn a_file_that_is_no_component(door) {
        let setup = Setup::component(&file("broken.wasm", b"this is no WebAssembly"));
        is_refused(door, setup, COMPONENT, &["broken.wasm"]).await;
    }

    async fn a_core_module_that_is_no_component(door) {
        let setup = Setup::component(&file("core.wasm", b"\0asm\x01\0\0\0"));
        is_refused(door, setup, COMPONENT, &["core.wasm", "component"]).await;
    }

    async fn a_component_of_another_world(door) {
        let setup = Setup::component(&file("empty.wasm", b"\0asm\x0d\0\x01\0"));
        is_refused(door, setup, COMPONENT, &["empty.wasm", "handle"]).await;
    }

    async fn a_component_cut_in_half(door) {
        let bytes = std::fs::read(ECHO.wasm()).unwrap();
        let setup = Setup::component(&file("half.wasm", &bytes[..bytes.len() / 2]));
        is_refused(door, setup, COMPONENT, &["half.wasm"]).await;
    }

    async fn a_compiled_component_cut_in_half(door) {
        let bytes = std::fs::read(ECHO.compiled()).unwrap();
        let setup = Setup::component(&file("half.cwasm", &bytes[..bytes.len() / 2]));
        is_refused(door, setup, COMPONENT, &["half.cwasm"]).await;
    }

    async fn a_component_of_no_bytes(door) {
        for name in ["none.wasm", "none.cwasm"] {
            is_refused(door, Setup::component(&file(name, b"")), COMPONENT, &[name, "is empty"]).await;
        }
    }

    async fn a_component_compiled_for_another_version(door) {
        let setup = Setup::component(&respelt("old.cwasm", |version, _| version.reverse()));
        is_refused(door, setup, COMPONENT, &["old.cwasm", "hearth compile", "version"]).await;
    }

    async fn a_component_compiled_for_another_architecture(door) {
        let other = |_: &mut [u8], target: &mut [u8]| {
            // Both have as many letters as the one they stand for.
            let architecture = if cfg!(target_arch = "x86_64") { "wasm32" } else { "riscv64" };
            target[..architecture.len()].copy_from_slice(architecture.as_bytes());
        };
        let setup = Setup::component(&respelt("other.cwasm", other));
        is_refused(door, setup, COMPONENT, &["other.cwasm", "hearth compile", "architecture"]).await;
    }

    async fn a_component_that_is_not_there(door) {
        let setup = Setup::component(Path::new("nowhere.wasm"));
        is_refused(door, setup, CONFIGURATION, &["nowhere.wasm", "hearth.toml:2"]).await;
    }

    async fn a_misspelt_key(door) {
        let setup = Setup::of(&ECHO).function("isolaton", "\"fresh\"");
        is_refused(door, setup, CONFIGURATION, &["isolaton", "isolation", "hearth.toml:4"]).await;
    }

    async fn a_misspelt_section(door) {
        let setup = Setup::of(&ECHO).toml("[databse.default]\nurl = \"x\"\n");
        is_refused(door, setup, CONFIGURATION, &["databse", "database"]).await;
    }

    async fn a_number_out_of_its_range(door) {
        let setup = Setup::of(&ECHO).function("memory_mib", "100000");
        is_refused(door, setup, CONFIGURATION, &["memory_mib", "4096", "100000"]).await;
    }

    /// What another function may have is no matter.
    async fn less_memory_than_a_component_begins_with(door) {
        let component = ECHO.compiled();
        let more = format!("[function.more]\ncomponent = {component:?}\nmemory_mib = 256\n");
        let setup = Setup::of(&ECHO).function("memory_mib", "1").toml(&more);
        let words = ["memory_mib", "\"tested\"", "begins with 2 MiB"];
        is_refused(door, setup, CONFIGURATION, &words).await;
    }

    async fn a_database_that_is_not_defined(door) {
        let setup = Setup::of(&ECHO).function("databases", "[\"archive\"]");
        is_refused(door, setup, CONFIGURATION, &["archive", "[database.archive]"]).await;
    }

    async fn a_variable_that_is_not_set(door) {
        let setup = Setup::of(&QUERY).database("url", "{ variable = \"NOT_SET_ANYWHERE\" }");
        is_refused(door, setup, CONFIGURATION, &["NOT_SET_ANYWHERE", "database.default.url"]).await;
    }

    /// What is wrong with an address is said without its password.
    async fn an_address_that_is_none(door) {
        let setup = Setup::of(&QUERY).database("url", "\"postgres://user:geheim@host:port/x\"");
        let mut trial = setup.launch(door).await;
        assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
        trial.host.line("database.default.url").await;
        assert_eq!(trial.host.lines("geheim"), 0, "a secret is in the log");
    }

    async fn a_file_that_is_no_toml(door) {
        let setup = Setup::of(&ECHO).toml("this is = = no toml");
        is_refused(door, setup, CONFIGURATION, &["hearth.toml", "TOML"]).await;
    }

    async fn the_environment_of_a_function_is_what_its_section_says(door) {
        let setup = Setup::of(&ECHO)
            .function("environment", "{ COLOUR = \"blue\", SECRET = { variable = \"OUTSIDE\" } }")
            .variable("OUTSIDE", "known")
            .variable("AWS_SECRET_ACCESS_KEY", "geheim");
        let trial = setup.start(door).await;
        let told = trial.value(serde_json::json!("context")).await;
        assert_eq!(told["environment"]["COLOUR"], "blue");
        assert_eq!(told["environment"]["SECRET"], "known");
        assert_eq!(told["environment"].as_object().unwrap().len(), 2, "{told}");
    }
}

/// On Lambda there is one function, with as many instances as events at a time.
#[tokio::test]
async fn more_instances_than_there_is_address_space_for() {
    let component = ECHO.compiled();
    let more = |number| {
        format!("[function.more{number}]\ncomponent = {component:?}\ninstances_max = 1000\n")
    };
    let setup = Setup::of(&ECHO).toml(&(0..16).map(more).collect::<String>());
    let words = ["instances_max", "room for"];
    is_refused(Door::Local, setup, CONFIGURATION, &words).await;
}

#[tokio::test]
async fn a_handler_that_names_no_function() {
    let directory = Setup::of(&ECHO).write();
    let lambda = e2e::lambda::Lambda::start().await;
    let mut host = Host::bootstrap(&directory, "testd", &lambda.address(), &[]);
    let call = lambda
        .call("a call of /init/error", |call| call.what == What::InitError)
        .await;
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    let message = body["errorMessage"].as_str().unwrap();
    assert!(
        message.contains("testd") && message.contains("tested"),
        "{message}"
    );
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
}

#[tokio::test]
async fn a_task_root_without_a_configuration() {
    let lambda = e2e::lambda::Lambda::start().await;
    let mut host = Host::bootstrap(&run::fresh_directory(), "tested", &lambda.address(), &[]);
    let call = lambda
        .call("a call of /init/error", |call| call.what == What::InitError)
        .await;
    assert_eq!(
        call.header("lambda-runtime-function-error-type"),
        CONFIGURATION
    );
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
    host.line("hearth.toml").await;
}

/// One `hearth.toml` for several functions, each of which is deployed with its own component alone.
#[tokio::test]
async fn a_function_is_deployed_without_the_components_and_variables_of_others() {
    let others = r#"
[function.other]
component = "other.cwasm"
databases = ["elsewhere"]
environment = { TOKEN = { variable = "TOKEN_OF_OTHER" } }

[database.elsewhere]
url = { variable = "URL_OF_OTHER" }
"#;
    let setup = Setup::of(&ECHO).toml(others);
    let trial = setup.start(Door::Lambda).await;
    assert_eq!(
        trial.value(serde_json::json!([1])).await,
        serde_json::json!([1])
    );
    let setup = Setup::of(&ECHO).toml(&format!("{others}\npool_mix = 1\n"));
    let words = ["unknown key \"pool_mix\"", "[database.elsewhere]"];
    is_refused(Door::Lambda, setup, CONFIGURATION, &words).await;
}
