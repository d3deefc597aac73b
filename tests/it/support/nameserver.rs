//! A nameserver of the test's own, by UDP and TCP at one port of 127.0.0.1, with whatever zones and manners the test wants.
//!
//! It is authoritative and does not recurse. The messages are made and read by the library that pgpool asks with.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, SOA},
    },
};

/// What it does with questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manners {
    #[default]
    Answers,
    /// It lets them go by.
    IsSilent,
    /// SERVFAIL to all.
    Fails,
    /// SERVFAIL where somebody asks for a SOA.
    HidesZones,
    /// Answers by UDP say that they were cut.
    Cuts,
    /// Where there is nothing to answer it does not say in which zone.
    IsTerse,
}

/// A question that it was asked: a name without the last dot, a type, and whether it came by TCP.
pub(crate) type Asked = (String, String, bool);

#[derive(Debug)]
pub(crate) struct Nameserver {
    port: u16,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    zones: BTreeMap<Name, u32>,
    hosts: BTreeMap<Name, Vec<IpAddr>>,
    aliases: BTreeMap<Name, Name>,
    manners: Manners,
    asked: Vec<Asked>,
    has_ended: bool,
}

impl Nameserver {
    /// One that knows nothing yet.
    pub(crate) fn start() -> Self {
        let (udp, tcp) = (0..20)
            .find_map(|_| {
                let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port for UDP and TCP");
        let port = udp.local_addr().expect("a bound address").port();
        let book = Arc::<Mutex<Book>>::default();
        let (by_udp, by_tcp) = (Arc::clone(&book), Arc::clone(&book));
        thread::spawn(move || serve_udp(&udp, &by_udp));
        thread::spawn(move || serve_tcp(&tcp, &by_tcp));
        Self { port, book }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its line in a resolv.conf.
    pub(crate) fn line(&self) -> String {
        format!("nameserver 127.0.0.1:{}\n", self.port)
    }

    /// From now on it has this zone, with this serial.
    pub(crate) fn has_zone(&self, zone: &str, serial: u32) {
        self.book().zones.insert(name(zone), serial);
    }

    /// From now on a name has these addresses.
    pub(crate) fn has_host(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.book().hosts.insert(name(host), addresses);
    }

    /// From now on a name is another one's alias.
    pub(crate) fn has_alias(&self, alias: &str, of: &str) {
        self.book().aliases.insert(name(alias), name(of));
    }

    pub(crate) fn behaves(&self, manners: Manners) {
        self.book().manners = manners;
    }

    /// What it was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.book().asked)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.book().has_ended = true;
        // Both wake up and see it.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let _ = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.send_to(&[0], (Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn serve_udp(socket: &UdpSocket, book: &Mutex<Book>) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let mut book = lock(book);
        if book.has_ended {
            return;
        }
        if let Some(answer) = buffer.get(..length).and_then(|question| book.answer(question, false)) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn serve_tcp(listener: &TcpListener, book: &Arc<Mutex<Book>>) {
    while let Ok((mut client, _)) = listener.accept() {
        if lock(book).has_ended {
            return;
        }
        let book = Arc::clone(book);
        thread::spawn(move || {
            let _ = client.set_read_timeout(Some(Duration::from_secs(30)));
            let mut length = [0; 2];
            while client.read_exact(&mut length).is_ok() {
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                if client.read_exact(&mut question).is_err() {
                    return;
                }
                if let Some(answer) = lock(&book).answer(&question, true) {
                    let length = u16::try_from(answer.len()).expect("a short answer").to_be_bytes();
                    let _ = client.write_all(&[&length[..], &answer].concat());
                }
            }
        });
    }
}

impl Book {
    fn answer(&mut self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let request = Message::from_vec(question).ok()?;
        let query = request.queries.first()?.clone();
        let asked = query.name().to_lowercase();
        let text = asked.to_ascii().trim_end_matches('.').to_owned();
        self.asked.push((text, query.query_type().to_string(), by_tcp));
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata.recursion_desired = request.metadata.recursion_desired;
        answer.metadata.authoritative = true;
        answer.add_query(query.clone());
        match self.manners {
            Manners::IsSilent => return None,
            Manners::Fails => answer.metadata.response_code = ResponseCode::ServFail,
            Manners::HidesZones if query.query_type() == RecordType::SOA => {
                answer.metadata.response_code = ResponseCode::ServFail;
            }
            Manners::Cuts if !by_tcp => answer.metadata.truncation = true,
            Manners::Answers | Manners::HidesZones | Manners::Cuts | Manners::IsTerse => {
                self.fill(&mut answer, asked, query.query_type())
            }
        }
        answer.to_vec().ok()
    }

    /// Answers for a name, or for what it is an alias of.
    fn fill(&self, answer: &mut Message, mut asked: Name, kind: RecordType) {
        while let Some(target) = self.aliases.get(&asked) {
            answer.add_answer(Record::from_rdata(asked, 0, RData::CNAME(CNAME(target.clone()))));
            asked = target.clone();
        }
        let inside = self.zones.iter().filter(|(zone, _)| zone.zone_of(&asked));
        let Some((zone, serial)) = inside.max_by_key(|(zone, _)| zone.num_labels()) else {
            answer.metadata.response_code = ResponseCode::Refused;
            return;
        };
        let soa = SOA::new(zone.clone(), zone.clone(), *serial, 1, 1, 1, 1);
        let soa = Record::from_rdata(zone.clone(), 0, RData::SOA(soa));
        if kind == RecordType::SOA && *zone == asked {
            answer.add_answer(soa);
            return;
        }
        let addresses = self.hosts.get(&asked);
        let records: Vec<Record> = addresses
            .into_iter()
            .flatten()
            .map(|address| Record::from_rdata(asked.clone(), 0, RData::from(*address)))
            .filter(|record| record.record_type() == kind)
            .collect();
        let is_above = || self.hosts.keys().any(|host| asked.zone_of(host));
        if addresses.is_none() && *zone != asked && !is_above() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        if records.is_empty() && self.manners != Manners::IsTerse {
            answer.add_authority(soa);
        }
        answer.add_answers(records);
    }
}

/// A complete name.
fn name(text: &str) -> Name {
    let mut name = Name::from_str_relaxed(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
