//! The two ways to write an address, as keys and values.
//!
//! Left to others: what the keys mean ([`super::key`]).

use std::iter::Peekable;
use std::str::Chars;

use percent_encoding::percent_decode_str;

use super::AddressProblem;

/// Keys and values, in the order they were given.
pub(super) type Pairs = Vec<(String, Vec<u8>)>;

/// `[user[:password]@][host[:port][,...]][/database][?key=value[&...]]`: what follows `postgres://`.
pub(super) fn url(text: &str) -> Result<Pairs, AddressProblem> {
    let (text, parameters) = text.split_once('?').unwrap_or((text, ""));
    let (authority, database) = text.split_once('/').unwrap_or((text, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let mut pairs = Pairs::new();
    let mut add = |key: &str, value: &str| pairs.push((key.to_owned(), decoded(value)));
    if !hosts.is_empty() {
        let (names, ports) = hosts_and_ports(hosts)?;
        add("host", &names);
        add("port", &ports);
    }
    if !user.is_empty() {
        add("user", user);
    }
    if let Some(password) = password {
        add("password", password);
    }
    if !database.is_empty() {
        add("dbname", database);
    }
    for parameter in parameters.split('&').filter(|given| !given.is_empty()) {
        let (key, value) = parameter.split_once('=').ok_or_else(|| {
            AddressProblem::new("what follows its ? is to be key=value, joined by &")
        })?;
        let key = String::from_utf8_lossy(&decoded(key)).into_owned();
        pairs.push((key, decoded(value)));
    }
    Ok(pairs)
}

fn hosts_and_ports(hosts: &str) -> Result<(String, String), AddressProblem> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| {
                AddressProblem::new("an IPv6 address in it lacks the ] at its end")
            })?,
            None => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => "",
            None => {
                return Err(AddressProblem::new(
                    "only :port may follow the ] of an IPv6 address",
                ));
            }
        };
        names.push(name);
        ports.push(port);
    }
    Ok((names.join(","), ports.join(",")))
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

/// `key=value key='a value' ...`, as libpq reads them: a backslash takes the next character as it is.
pub(super) fn words(text: &str) -> Result<Pairs, AddressProblem> {
    let mut pairs = Pairs::new();
    let mut rest = text.chars().peekable();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        skip_space(&mut rest);
        if rest.next() != Some('=') || key.is_empty() {
            return Err(AddressProblem::new(
                "it is neither a URL nor a list of key=value",
            ));
        }
        skip_space(&mut rest);
        pairs.push((key, value(&mut rest)?.into_bytes()));
    }
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}

fn value(rest: &mut Peekable<Chars<'_>>) -> Result<String, AddressProblem> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    while let Some(c) = rest.next_if(|c| quoted || !c.is_whitespace()) {
        match c {
            '\'' if quoted => return Ok(value),
            '\\' => value.extend(rest.next()),
            c => value.push(c),
        }
    }
    match quoted {
        true => Err(AddressProblem::new("a quoted value in it has no end")),
        false => Ok(value),
    }
}
