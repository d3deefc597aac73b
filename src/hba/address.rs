//! The column ADDRESS: where a client may come from.

use std::net::IpAddr;

use super::field::Columns;
use super::mistake::Mistake;

const WHAT: &str = "IP address specification";

/// Where a client may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `all`: anywhere.
    All,
    /// `samehost`: from an address of this machine.
    SameHost,
    /// `samenet`: from a network that this machine is in.
    SameNet,
    /// An address and a mask.
    Network(Network),
    /// A host name, or the end of one.
    Host(HostPattern),
}

/// Addresses that are the same in the bits of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    mask: IpAddr,
}

/// `host.example.com`, or `.example.com` for every name that ends so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl Address {
    /// Takes the column, and that of the mask behind an address without one.
    pub(super) fn parse(columns: &mut Columns<'_>) -> Result<Self, Mistake> {
        let token = match columns.one(WHAT) {
            Err(Mistake::Several(_)) => return Err(Mistake::Several("host address")),
            token => token?,
        };
        if token.is("all") {
            return Ok(Self::All);
        } else if token.is("samehost") {
            return Ok(Self::SameHost);
        } else if token.is("samenet") {
            return Ok(Self::SameNet);
        }
        let text = token.text.as_str();
        let (before, bits) = match text.split_once('/') {
            Some((before, bits)) => (before, Some(bits)),
            None => (text, None),
        };
        if before.contains('%') {
            return Err(Mistake::Scope(text.to_owned()));
        }
        match (before.parse::<IpAddr>(), bits) {
            (Ok(address), Some(bits)) => {
                let network = Network::of_bits(address, bits).ok_or_else(|| Mistake::Bits(text.to_owned()))?;
                network.unless_mapped(text)
            }
            (Ok(address), None) => {
                let mask = match columns.one("netmask specification") {
                    Err(Mistake::Missing(_)) => return Err(Mistake::NoMask(text.to_owned())),
                    Err(Mistake::Several(_)) => return Err(Mistake::Several("netmask")),
                    mask => mask?,
                };
                let mask = mask.text.parse().map_err(|_| Mistake::Mask(mask.text.clone()))?;
                Network::new(address, mask).ok_or(Mistake::Families)?.unless_mapped(text)
            }
            // 127.1 and 1.2.3.400 are no names that anybody has.
            (Err(_), _) if !is_name(before) => Err(Mistake::Address(text.to_owned())),
            (Err(_), Some(_)) => Err(Mistake::NameWithMask(text.to_owned())),
            (Err(_), None) => Ok(Self::Host(HostPattern(text.to_owned()))),
        }
    }
}

/// Whether it may be a host name or the end of one: no blanks or colons, and something that is no digit.
fn is_name(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    !text.is_empty()
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && !digits.chars().all(|c| c.is_ascii_digit() || c == '.')
}

impl Network {
    /// An address and a mask; none if they are not of one family.
    pub(super) fn new(address: IpAddr, mask: IpAddr) -> Option<Self> {
        match (address, mask) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some(Self { address, mask }),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// An address and the count of the bits that matter, as text.
    fn of_bits(address: IpAddr, bits: &str) -> Option<Self> {
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let bits: u32 = bits.parse().ok()?;
        let mask = match address {
            IpAddr::V4(_) if bits <= 32 => IpAddr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0).to_be_bytes()),
            IpAddr::V6(_) if bits <= 128 => IpAddr::from(u128::MAX.checked_shl(128 - bits).unwrap_or(0).to_be_bytes()),
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Self::new(address, mask)
    }

    /// One address.
    pub(super) fn single(address: IpAddr) -> Self {
        let mask = match address {
            IpAddr::V4(_) => IpAddr::from([0xff; 4]),
            IpAddr::V6(_) => IpAddr::from([0xff; 16]),
        };
        Self { address, mask }
    }

    /// Refuses IPv4 addresses that are written as IPv6. They would fit nobody in PostgreSQL, and to take them for what they
    /// stand for would let in whom PostgreSQL does not.
    fn unless_mapped(self, text: &str) -> Result<Address, Mistake> {
        if let (IpAddr::V6(address), IpAddr::V6(mask)) = (self.address, self.mask)
            && let Some(four) = address.to_ipv4_mapped()
            && u128::from(mask) >> 32 == u128::MAX >> 32
        {
            let [.., a, b, c, d] = mask.octets();
            let mask = std::net::Ipv4Addr::new(a, b, c, d);
            return Err(Mistake::Mapped { address: text.to_owned(), instead: format!("{four} {mask}") });
        }
        Ok(Address::Network(self))
    }

    /// Whether the address is in it. The two have to be of one family; an IPv4-mapped address is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, self.mask, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(mask), IpAddr::V4(address)) => {
                (u32::from(net) ^ u32::from(address)) & u32::from(mask) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(mask), IpAddr::V6(address)) => {
                (u128::from(net) ^ u128::from(address)) & u128::from(mask) == 0
            }
            _ => false,
        }
    }

    /// Address and mask, for printing.
    pub(super) fn parts(&self) -> (IpAddr, IpAddr) {
        (self.address, self.mask)
    }
}

impl HostPattern {
    /// Whether it is this name, or the name ends so; case does not matter.
    pub fn matches(&self, name: &str) -> bool {
        if self.0.starts_with('.') {
            let (name, end) = (name.as_bytes(), self.0.as_bytes());
            name.len()
                .checked_sub(end.len())
                .and_then(|from| name.get(from..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        } else {
            name.eq_ignore_ascii_case(&self.0)
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
