//! Where links lead, from the pages for people and from what heads each file.

use std::path::Path;

use super::{Source, files, none, root};

/// The pages whose links are looked at.
const PAGES: [&str; 3] = ["ARCHITECTURE.md", "README.md", "SETTINGS.md"];

/// Where the links of a text lead, `[so](there)`, without the place within that.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let behind = text.split("](").skip(1);
    behind.filter_map(|rest| {
        Some(
            rest.split_once(')')?
                .0
                .split('#')
                .next()
                .unwrap_or_default(),
        )
    })
}

/// Whether a link leads to a file beside the one it is in. What is neither that nor an address is an item of Rust's.
fn is_path(link: &str) -> bool {
    !link.contains("://") && link.contains(['/', '.'])
}

/// What heads a file, without its code.
fn head(text: &str) -> String {
    let lines = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("//!"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let pages = files(&PAGES, ".md");
    assert_eq!(pages.len(), PAGES.len());
    let headed = super::rust().into_iter().map(|file| Source {
        text: head(&file.text),
        path: file.path,
    });
    let mut problems = Vec::new();
    for file in pages.into_iter().chain(headed) {
        let folder = root().join(&file.path);
        let folder = folder.parent().unwrap_or(Path::new(""));
        for link in links(&file.text).filter(|link| is_path(link)) {
            if !folder.join(link).exists() {
                problems.push(format!("{}: {link}", file.path));
            }
        }
    }
    none(problems);
}
