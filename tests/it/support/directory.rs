//! An LDAP server of the test's own: OpenLDAP's `slapd` on free ports, with a few people in it.
//!
//! `cn=reader,dc=example,dc=net` (`readerpw`) may search; below `ou=people` are `uid=alice` (`alicedir`), `uid=bob`
//! (`bobdir`) and `uid=carol, the second` (`caroldir`); two entries have the mail `twice@example.net`.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    cluster::free_port,
    janitor::Janitor,
    process::LoggingChild,
    programs::{ended_with_this_thread, find},
    wait::holds_within,
};

const STARTS: Duration = Duration::from_secs(20);
const ATTEMPTS: usize = 10;

const ENTRIES: &str = "\
dn: dc=example,dc=net
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: cn=reader,dc=example,dc=net
objectClass: person
cn: reader
sn: reader
userPassword: readerpw

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit
ou: people

dn: uid=alice,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: alice
cn: alice
sn: alice
mail: twice@example.net
userPassword: alicedir

dn: uid=bob,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: bob
cn: bob
sn: bob
mail: twice@example.net
userPassword: bobdir

dn: uid=carol\\, the second,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: carol, the second
cn: carol
sn: carol
userPassword: caroldir
";

pub(crate) struct Directory {
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    dir: TempDir,
    _process: LoggingChild,
    _janitor: Janitor,
}

impl Directory {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("pgpool-ldap-").tempdir().expect("make a directory");
        let janitor = Janitor::watch(dir.path());
        fs::create_dir(dir.path().join("data")).expect("make a directory");
        certificate(dir.path());
        let file = |name: &str| dir.path().join(name).display().to_string();
        let conf = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             pidfile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
             database mdb\nmaxsize 16777216\nsuffix dc=example,dc=net\ndirectory {}\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=cn=reader,dc=example,dc=net read by * none\n",
            file("pid"),
            file("cert.pem"),
            file("key.pem"),
            file("data")
        );
        let conf_file = dir.path().join("slapd.conf");
        fs::write(&conf_file, conf).expect("write slapd.conf");
        load(&conf_file);
        for _ in 0..ATTEMPTS {
            let (port, tls_port) = (free_port(), free_port());
            let mut command = ended_with_this_thread(&slapd());
            let urls = format!("ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{tls_port}/");
            command.args(["-d", "0", "-h", &urls, "-f"]).arg(&conf_file);
            let mut process = LoggingChild::spawn("slapd", command);
            let answers = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
            if holds_within(STARTS, || !process.is_running() || (answers(port) && answers(tls_port)))
                && process.is_running()
            {
                return Self { port, tls_port, dir, _process: process, _janitor: janitor };
            }
        }
        panic!("slapd did not start");
    }

    /// The certificate of its authority, which is its own.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }
}

fn slapd() -> PathBuf {
    find("slapd").expect("slapd (on Debian: apt-get install slapd)")
}

fn load(conf: &Path) {
    let mut slapadd = Command::new(find("slapadd").expect("slapadd, which comes with slapd"))
        .arg("-f")
        .arg(conf)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start slapadd");
    slapadd.stdin.take().expect("a piped stdin").write_all(ENTRIES.as_bytes()).expect("write to slapadd");
    let output = slapadd.wait_with_output().expect("wait for slapadd");
    assert!(output.status.success(), "slapadd: {}", String::from_utf8_lossy(&output.stderr));
}

fn certificate(dir: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=directory", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .expect("start openssl");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
