//! A directory server that says of a password whether it is right, and no more.
//!
//! PostgreSQL asks one with `ldap` in its `pg_hba.conf`, and passes on what it was given, word for
//! word: so it takes whatever a test says, as RDS takes its tokens. It knows two requests of LDAP,
//! to bind and to part.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a password is answered with: why not, if it is refused.
pub type Verdict = Result<(), String>;

/// What stands before a user's name in what PostgreSQL asks for.
const PREFIX: &str = "uid=";

/// The longest request: PostgreSQL takes no password that is longer.
const REQUEST_BYTES_MAX: usize = 70_000;

/// The server. It goes on until the process ends.
pub struct Ldap {
    port: u16,
    users: Users,
}

type Users = Arc<Mutex<HashMap<String, User>>>;

struct User {
    judge: Box<dyn FnMut(&str) -> Verdict + Send>,
    asked: Vec<(String, Verdict)>,
}

impl Ldap {
    /// Starts on a port of its own.
    pub fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the machine has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let users = Users::default();
        let known = users.clone();
        // Threads: it is shared by tests that each have a runtime of their own.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let users = known.clone();
                std::thread::spawn(move || serve(stream, &users));
            }
        });
        Self { port, users }
    }

    /// What `pg_hba.conf` says to have logins judged here.
    pub fn method(&self) -> String {
        format!(
            r#"ldap ldapserver=127.0.0.1 ldapport={} ldapprefix="{PREFIX}" ldapsuffix="""#,
            self.port
        )
    }

    /// From now on this judges the passwords of this user.
    pub fn judge(&self, user: &str, judge: impl FnMut(&str) -> Verdict + Send + 'static) {
        let user_with = User {
            judge: Box::new(judge),
            asked: Vec::new(),
        };
        let mut users = self.users.lock().unwrap();
        users.insert(user.to_owned(), user_with);
    }

    /// The passwords that this user came with so far, and what became of each.
    pub fn asked(&self, user: &str) -> Vec<(String, Verdict)> {
        let users = self.users.lock().unwrap();
        users
            .get(user)
            .map(|user| user.asked.clone())
            .unwrap_or_default()
    }
}

fn serve(mut stream: TcpStream, users: &Users) {
    while let Some(request) = request(&mut stream) {
        let Some((id, name, password)) = bind(&request) else {
            return;
        };
        let mut users = users.lock().unwrap();
        let user = name
            .strip_prefix(PREFIX)
            .and_then(|name| users.get_mut(name));
        let right = user.is_some_and(|user| {
            let verdict = (user.judge)(&password);
            user.asked.push((password, verdict.clone()));
            verdict.is_ok()
        });
        drop(users);
        if stream.write_all(&answer(&id, right)).is_err() {
            return;
        }
    }
}

/// The content of the next message; none at the end, or if it is none of LDAP's.
fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut length = usize::from(head[1]);
    if length > 127 {
        let mut bytes = vec![0; length & 127];
        stream.read_exact(&mut bytes).ok()?;
        length = number(&bytes);
    }
    let mut content = vec![0; Some(length).filter(|length| *length <= REQUEST_BYTES_MAX)?];
    stream.read_exact(&mut content).ok()?;
    (head[0] == 0x30).then_some(content)
}

/// The number of the message, the name and the password, if it is a request to bind by password.
fn bind(message: &[u8]) -> Option<(Vec<u8>, String, String)> {
    let (id, rest) = element(0x02, message)?;
    let (bind, _) = element(0x60, rest)?;
    let (_version, rest) = element(0x02, bind)?;
    let (name, rest) = element(0x04, rest)?;
    let (password, _) = element(0x80, rest)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some((id.to_vec(), text(name)?, text(password)?))
}

/// The content of an element with this tag, and what comes after it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=127 => (usize::from(short), rest),
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 127))?;
            (number(bytes), rest)
        }
    };
    (found == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
}

/// Success, or that the credentials are invalid.
fn answer(id: &[u8], right: bool) -> Vec<u8> {
    let code = if right { 0 } else { 49 };
    let result = [0x61, 7, 0x0a, 1, code, 0x04, 0, 0x04, 0];
    let mut message = vec![0x30, (2 + id.len() + result.len()) as u8, 0x02];
    message.push(id.len() as u8);
    message.extend(id);
    message.extend(result);
    message
}
