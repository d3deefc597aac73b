//! stub
use super::*;
use crate::wire::write::Report;
#[derive(Clone, Debug)]
pub struct Pin { pub features: Vec<&'static str>, pub since: Micros, pub why: Box<str> }
impl Pool { pub fn try_pin(&self, _s: &PoolSettings) -> Option<Permit> { self.size.acquire(0) } }
impl ClientRecord { pub fn set_pin(&self, _p: Option<Pin>) {} pub fn pin(&self) -> Option<Pin> { None } }
pub fn pin_refused(_p: &Arc<Pool>, _c: &ClientRecord, w: &str) -> Report { Report::error("53400", format!("too many pinned connections: {w}")) }
pub fn feature_rejected(w: &str) -> Report { Report::error("0A000", format!("{w} not allowed")) }
pub fn feature_warning(w: &str) -> Report { Report::new("WARNING", "01000", format!("{w} not allowed")) }
