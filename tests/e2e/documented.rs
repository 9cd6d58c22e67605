//! What functions are written against says what it is, item by item.

use crate::tidy::{files, none};

/// A doc comment stands right before each item; parameters need none of their own.
#[test]
fn every_item_of_wit_is_documented() {
    let mut problems = Vec::new();
    for file in files(&["wit"], ".wit") {
        let (mut documented, mut depth) = (false, 0);
        for (index, line) in file.text.lines().enumerate() {
            let line = line.trim();
            let begins = |begin: &&str| line.starts_with(begin);
            let is_item = !line.is_empty() && !["//", "}", "use ", "import "].iter().any(begins);
            if is_item && depth == 0 && !documented {
                problems.push(format!("{}:{}: {line}", file.path, index + 1));
            }
            documented = line.starts_with("///");
            if !line.starts_with("//") {
                depth += line.matches('(').count();
                depth -= line.matches(')').count();
            }
        }
    }
    none(problems);
}
