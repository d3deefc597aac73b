//! stub
use std::ops::Range;
#[derive(Clone, Copy, Debug)]
pub struct Dialect { pub standard_strings: bool, pub two_byte: bool }
impl Default for Dialect { fn default() -> Self { Dialect { standard_strings: true, two_byte: false } } }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature { AdvisoryLock, TempTable, HoldCursor, Listen, Load }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u8);
impl Features {
    pub const EMPTY: Features = Features(0);
    pub const ALL: Features = Features(31);
    pub fn insert(&mut self, f: Feature) { self.0 |= 1 << f as u8 }
    pub fn contains(self, f: Feature) -> bool { self.0 & (1 << f as u8) != 0 }
    pub fn union(self, o: Features) -> Features { Features(self.0 | o.0) }
    pub fn is_empty(self) -> bool { self.0 == 0 }
    pub fn iter(self) -> impl Iterator<Item = Feature> { [Feature::AdvisoryLock, Feature::TempTable, Feature::HoldCursor, Feature::Listen, Feature::Load].into_iter().filter(move |f| self.contains(*f)) }
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg { Name(Box<str>), Parameter(u16), Opaque }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name { pub text: Box<[u8]>, pub range: Range<usize> }
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act { Set(Box<str>), Reset(Box<str>), ResetAll, SetConfig(Arg), Prepare { name: Name, types: Range<usize>, statement: Range<usize> }, Execute(Name), Deallocate(Name), DeallocateAll, DiscardAll, Listen(Box<[u8]>), Unlisten(Box<[u8]>), UnlistenAll, Uses(Feature), Ends(Feature), Opaque }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First { Empty, TransactionEnd, Plain, Other }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script { pub first: First, pub statements: u32, pub sets: u32, pub acts: Vec<Act> }
pub fn read(_text: &[u8], _dialect: Dialect) -> Script { Script { first: First::Plain, statements: 1, sets: 0, acts: vec![] } }
pub struct Reading;
impl Reading { pub fn new(_d: Dialect) -> Self { Reading } pub fn feed(&mut self, _b: &[u8]) {} pub fn finish(self) -> Script { read(b"", Dialect::default()) } }
impl FromIterator<Feature> for Features { fn from_iter<I: IntoIterator<Item = Feature>>(iter: I) -> Self { let mut f = Features::default(); iter.into_iter().for_each(|x| f.insert(x)); f } }
