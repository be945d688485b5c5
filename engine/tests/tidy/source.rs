//! Reads Rust just well enough to check it: tokens with their line, the comments, the modules a
//! file declares, and every path it names, with a mark on what only tests compile.
//!
//! A real parser would be a dependency of a hundred thousand lines for six questions. This one
//! knows strings, comments, brackets, attributes and `use` trees, and nothing of types.

/// One token of code. Numbers and lifetimes are skipped: no question is about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Text(String),
    Mark(char),
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Inside something that carries `#[test]` or a `cfg` which only tests satisfy.
    pub(crate) test: bool,
    /// The inline modules around the token, outermost first.
    pub(crate) scope: Vec<String>,
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        if let Kind::Word(word) = &self.kind { Some(word) } else { None }
    }

    fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Comment {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) test: bool,
}

/// `mod name;`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) name: String,
    /// The inline modules around the declaration.
    pub(crate) scope: Vec<String>,
    /// What `#[path = ".."]` says.
    pub(crate) path: Option<String>,
    pub(crate) test: bool,
}

/// `a::b::c`, from a `use` line or from an expression or type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) scope: Vec<String>,
    pub(crate) test: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) children: Vec<Child>,
    pub(crate) paths: Vec<Path>,
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let mut source = Self::default();
        source.scan(text);
        source.mark_regions();
        source.collect_paths();
        source
    }

    /// Names of macros that are called, with their token.
    pub(crate) fn macros(&self) -> impl Iterator<Item = (&str, &Token)> {
        self.tokens.windows(2).filter_map(|pair| match (pair[0].word(), &pair[1].kind) {
            (Some(name), Kind::Mark('!')) => Some((name, &pair[0])),
            _ => None,
        })
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push(Token { kind, line, test: false, scope: Vec::new() });
    }

    /// Text to tokens and comments.
    fn scan(&mut self, text: &str) {
        let chars: Vec<char> = text.chars().collect();
        let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
        let (mut index, mut line) = (0, 1);
        while index < chars.len() {
            let start = index;
            let first_line = line;
            match at(index) {
                '/' if at(index + 1) == '/' => {
                    while index < chars.len() && at(index) != '\n' {
                        index += 1;
                    }
                    let text = chars[start..index].iter().collect();
                    self.comments.push(Comment { line, text, test: false });
                }
                '/' if at(index + 1) == '*' => {
                    let mut depth = 0_usize;
                    while index < chars.len() {
                        if at(index) == '/' && at(index + 1) == '*' {
                            depth += 1;
                            index += 2;
                        } else if at(index) == '*' && at(index + 1) == '/' {
                            depth -= 1;
                            index += 2;
                            if depth == 0 {
                                break;
                            }
                        } else {
                            index += 1;
                        }
                    }
                    let text: String = chars[start..index.min(chars.len())].iter().collect();
                    self.comments.push(Comment { line, text, test: false });
                }
                '"' => index = self.scan_string(&chars, index, line),
                '\'' => {
                    // A character literal closes within two; everything else is a lifetime.
                    if at(index + 1) == '\\' {
                        index += 3;
                        while index < chars.len() && at(index) != '\'' {
                            index += 1;
                        }
                        index += 1;
                    } else if at(index + 2) == '\'' {
                        index += 3;
                    } else {
                        index += 1;
                        while is_word(at(index)) {
                            index += 1;
                        }
                    }
                }
                character if is_word(character) => {
                    while is_word(at(index)) {
                        index += 1;
                    }
                    let word: String = chars[start..index].iter().collect();
                    let hashes = (index..).take_while(|&next| at(next) == '#').count();
                    let string = at(index + hashes) == '"';
                    match word.as_str() {
                        "r" | "br" | "cr" if string => {
                            index = self.scan_raw_string(&chars, index + hashes, hashes, line);
                        }
                        "b" | "c" if string && hashes == 0 => {
                            index = self.scan_string(&chars, index, line);
                        }
                        "b" if at(index) == '\'' => {}
                        "r" if hashes == 1 => index += 1, // r#name
                        _ if character.is_ascii_digit() => {}
                        _ => self.push(Kind::Word(word), line),
                    }
                }
                mark => {
                    if !mark.is_whitespace() {
                        self.push(Kind::Mark(mark), line);
                    }
                    index += 1;
                }
            }
            index = index.min(chars.len());
            line = first_line + chars[start..index].iter().filter(|&&c| c == '\n').count();
        }
    }

    /// From the opening quote; the index after the closing one.
    fn scan_string(&mut self, chars: &[char], open: usize, line: usize) -> usize {
        let mut index = open + 1;
        while index < chars.len() && chars[index] != '"' {
            index += if chars[index] == '\\' { 2 } else { 1 };
        }
        let end = index.min(chars.len());
        self.push(Kind::Text(chars[open + 1..end].iter().collect()), line);
        end + 1
    }

    fn scan_raw_string(
        &mut self,
        chars: &[char],
        open: usize,
        hashes: usize,
        line: usize,
    ) -> usize {
        let closes = |index: usize| {
            chars[index] == '"'
                && (1..=hashes).all(|offset| chars.get(index + offset) == Some(&'#'))
        };
        let end = (open + 1..chars.len()).find(|&index| closes(index)).unwrap_or(chars.len());
        self.push(Kind::Text(chars[open + 1..end].iter().collect()), line);
        end + 1 + hashes
    }

    /// Gives each token its scope and test mark, and finds `mod name;`.
    fn mark_regions(&mut self) {
        struct Open {
            module: bool,
            test: bool,
        }
        let mut open: Vec<Open> = Vec::new();
        let mut scope: Vec<String> = Vec::new();
        // What the attributes before the next item say; gone when that item ends or opens a body.
        let mut pending_test = false;
        let mut pending_path: Option<String> = None;
        let mut pending_depth = 0;
        let mut next_module: Option<String> = None;
        let mut index = 0;
        while index < self.tokens.len() {
            let inside_test = open.last().is_some_and(|outer| outer.test);
            if self.tokens[index].is('#')
                && self.tokens.get(index + 1).is_some_and(|token| token.is('['))
            {
                let end = closing(&self.tokens, index + 1);
                let attribute = &self.tokens[index + 2..end];
                pending_test |= only_for_tests(attribute);
                if let [name, equals, value] = attribute
                    && name.word() == Some("path")
                    && equals.is('=')
                    && let Kind::Text(path) = &value.kind
                {
                    pending_path = Some(path.clone());
                }
                pending_depth = open.len();
                for token in self.tokens.iter_mut().take(end + 1).skip(index) {
                    token.test = inside_test || pending_test;
                    token.scope.clone_from(&scope);
                }
                index = end + 1;
                continue;
            }
            let test = inside_test || pending_test;
            self.tokens[index].test = test;
            self.tokens[index].scope.clone_from(&scope);
            match self.tokens[index].kind.clone() {
                Kind::Word(word) if word == "mod" => {
                    let name = self.tokens.get(index + 1).and_then(Token::word);
                    next_module = name.map(str::to_owned);
                }
                Kind::Mark('{') => {
                    let module = next_module.take();
                    open.push(Open { module: module.is_some(), test });
                    scope.extend(module);
                    pending_test = false;
                    pending_path = None;
                }
                Kind::Mark('(' | '[') => open.push(Open { module: false, test }),
                Kind::Mark(')' | ']' | '}') => {
                    if open.pop().is_some_and(|closed| closed.module) {
                        scope.pop();
                    }
                    if open.len() < pending_depth {
                        pending_test = false;
                    }
                }
                Kind::Mark(';') if open.len() <= pending_depth || !pending_test => {
                    if let Some(name) = next_module.take() {
                        let path = pending_path.take();
                        self.children.push(Child { name, scope: scope.clone(), path, test });
                    }
                    pending_test = false;
                }
                _ => {}
            }
            index += 1;
        }
        self.mark_comments();
    }

    /// A comment belongs to the code beside or after it, so that a citation above `#[test]` counts.
    fn mark_comments(&mut self) {
        for comment in &mut self.comments {
            let next = self.tokens.partition_point(|token| token.line < comment.line);
            comment.test = self.tokens.get(next).is_some_and(|token| token.test);
        }
    }

    fn collect_paths(&mut self) {
        let mut index = 0;
        while index < self.tokens.len() {
            let Some(word) = self.tokens[index].word() else {
                index += 1;
                continue;
            };
            let follows_path = self.follows_path(index);
            if word == "use" && !self.tokens.get(index + 1).is_some_and(|token| token.is('<')) {
                index = self.collect_use(index + 1, &[]);
            } else if !follows_path
                && self.is_path_separator(index + 1)
                && !self.in_visibility(index)
            {
                let start = index;
                let mut segments = vec![word.to_owned()];
                index += 1;
                while self.is_path_separator(index) {
                    let Some(next) = self.tokens.get(index + 2).and_then(Token::word) else {
                        break;
                    };
                    segments.push(next.to_owned());
                    index += 3;
                }
                self.push_path(segments, start);
            } else {
                index += 1;
            }
        }
    }

    /// One branch of a `use` tree from `index`; the index after it.
    fn collect_use(&mut self, mut index: usize, prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let start = index;
        while let Some(token) = self.tokens.get(index) {
            match &token.kind {
                Kind::Word(word) if word == "as" => index += 2,
                Kind::Word(word) => {
                    segments.push(word.clone());
                    index += 1;
                }
                Kind::Mark('*') => {
                    segments.push("*".to_owned());
                    index += 1;
                }
                Kind::Mark('{') => {
                    index += 1;
                    while !self.tokens.get(index).is_none_or(|token| token.is('}')) {
                        index = self.collect_use(index, &segments);
                        if self.tokens.get(index).is_some_and(|token| token.is(',')) {
                            index += 1;
                        }
                    }
                    return index + 1;
                }
                Kind::Mark(':' | '$') => index += 1,
                _ => break,
            }
        }
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        self.push_path(segments, start);
        // Never stand still, whatever a branch begins with.
        index.max(start + 1)
    }

    fn push_path(&mut self, segments: Vec<String>, start: usize) {
        let Some(token) = self.tokens.get(start) else { return };
        let path =
            Path { segments, line: token.line, scope: token.scope.clone(), test: token.test };
        self.paths.push(path);
    }

    fn is_path_separator(&self, index: usize) -> bool {
        let colon = |index: usize| self.tokens.get(index).is_some_and(|token| token.is(':'));
        colon(index) && colon(index + 1)
    }

    /// `::name` after a name or a closing `>` continues a path; after anything else it begins one.
    fn follows_path(&self, index: usize) -> bool {
        if index < 3 || !self.is_path_separator(index - 2) {
            return false;
        }
        let before = &self.tokens[index - 3];
        let arrow =
            index >= 4 && (self.tokens[index - 4].is('-') || self.tokens[index - 4].is('='));
        before.word().is_some() || (before.is('>') && !arrow)
    }

    /// `pub(in crate::room)` names who may look in; it is no arrow out.
    fn in_visibility(&self, index: usize) -> bool {
        index >= 2 && self.tokens[index - 1].word() == Some("in") && self.tokens[index - 2].is('(')
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The index of the bracket that closes the one at `open`, or the end.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// `test`, or a `cfg` that names `test` and neither negates it nor offers another way in.
fn only_for_tests(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().filter_map(Token::word).collect();
    match words.as_slice() {
        ["test"] => true,
        ["cfg", rest @ ..] => {
            rest.contains(&"test") && !rest.contains(&"not") && !rest.contains(&"any")
        }
        _ => false,
    }
}
