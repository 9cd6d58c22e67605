//! Which parenthesis ends what another one begins.
//!
//! Promises: all of a text's are matched in one pass, however deep they are and whether they match or not:
//! a guest chooses the text.

use super::lexer::Token;

/// The parentheses of some tokens.
pub struct Parentheses {
    /// For each token the place of the one that it belongs to; its own, if there is none.
    partners: Vec<usize>,
}

impl Parentheses {
    /// Those of these tokens.
    pub fn of(tokens: &[Token]) -> Self {
        let mut partners: Vec<usize> = (0..tokens.len()).collect();
        let mut open = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                Token::Symbol('(') => open.push(index),
                Token::Symbol(')') => {
                    if let Some(begin) = open.pop() {
                        partners[begin] = index;
                        partners[index] = begin;
                    }
                }
                _ => {}
            }
        }
        Self { partners }
    }

    /// The place of the parenthesis that belongs to the one at this place.
    pub fn partner(&self, index: usize) -> Option<usize> {
        let partner = *self.partners.get(index)?;
        (partner != index).then_some(partner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::Tokens;
    use super::*;

    #[test]
    fn each_has_the_one_that_it_belongs_to() {
        let tokens: Vec<Token> = Tokens::new(") f(a, (b)) (").collect();
        let parentheses = Parentheses::of(&tokens);
        let partners = (0..tokens.len()).map(|index| parentheses.partner(index));
        let some = |index| Some(index);
        assert_eq!(
            partners.collect::<Vec<_>>(),
            [
                None,
                None,
                some(8),
                None,
                None,
                some(7),
                None,
                some(5),
                some(2),
                None
            ]
        );
        assert_eq!(parentheses.partner(99), None);
    }
}
