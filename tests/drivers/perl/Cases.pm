# What Perl programs share: registering and running cases, and several clients at work in turns.
package Cases;

use strict;
use warnings;
use utf8;

use Data::Dumper;
use Exporter 'import';

our @EXPORT = qw(test crowd_test run_cases equal fails backends);

my (@names, %cases);

binmode STDOUT, ':encoding(UTF-8)';
$| = 1;

# How many backends the clients share; 0 = each has its own.
sub backends { return $ENV{PGPOOL_BACKENDS} // 0 }

sub test {
    my ($name, $body) = @_;
    push @names, $name;
    $cases{$name} = $body;
    return;
}

# A case with some clients, which are closed behind it.
sub crowd_test {
    my ($name, $size, $body) = @_;
    test($name, sub {
        my $crowd = Crowd->new($size);
        my $done = eval { $body->($crowd); 1 };
        my $error = $@;
        $crowd->close;
        die $error unless $done;
    });
    return;
}

sub run_cases {
    my ($driver, $version) = @_;
    my @chosen = @ARGV ? @ARGV : @names;
    print "plan @chosen\n";
    for my $name (@chosen) {
        if (eval { $cases{$name}->(); 1 }) {
            print "ok $name\n";
        } else {
            my $error = $@ || 'died';
            $error =~ s/\s+/ /g;
            print "not ok $name: ", substr($error, 0, 400), "\n";
        }
    }
    print "version $driver $version\n";
    return;
}

sub show {
    my ($value) = @_;
    local ($Data::Dumper::Terse, $Data::Dumper::Indent, $Data::Dumper::Useqq) = (1, 0, 1);
    return Dumper($value);
}

sub place {
    my @frame = caller 1;
    return "$frame[1]:$frame[2]";
}

# Compares texts, numbers as texts, undef, and nested lists of them.
sub equal {
    my ($got, $expected) = @_;
    same($got, $expected) or die 'got ' . show($got) . ', expected ' . show($expected) . ' at ' . place() . "\n";
    return;
}

sub same {
    my ($one, $other) = @_;
    if (ref $one && ref $other) {
        return @$one == @$other && !grep { !same($one->[$_], $other->[$_]) } 0 .. $#$one;
    }
    return defined $one && defined $other ? $one eq $other : !defined $one && !defined $other;
}

# The work has to fail with this SQLSTATE.
sub fails {
    my ($sqlstate, $work) = @_;
    if (eval { $work->(); 1 }) {
        die "there was no error $sqlstate at " . place() . "\n";
    }
    my $error = $@;
    die $error unless ($DBI::state // '') eq $sqlstate;
    return;
}

# Clients that work in turns, and one more that only holds a backend. A pool lends the backend that came back last, so
# clients that work one after the other would all use the same one. In every second turn of each client the last one is
# in a transaction, and so the client gets another backend than in its turn before.
package Crowd;

sub new {
    my ($class, $size) = @_;
    return bless { clients => [map { Client->new } 1 .. $size], last => Client->new }, $class;
}

sub clients { return @{ $_[0]{clients} } }
sub last_one { return $_[0]{last} }

sub close {
    my ($self) = @_;
    eval { $_->close } for $self->clients, $self->last_one;
    return;
}

sub held {
    my ($self, $work) = @_;
    $self->last_one->begin;
    $self->last_one->text(q{select 'held'});
    $work->();
    $self->last_one->commit;
    return;
}

sub turns {
    my ($self, $rounds, $work) = @_;
    my @clients = $self->clients;
    for my $turn (0 .. $rounds - 1) {
        for my $number (0 .. $#clients) {
            if (($turn + $number) % 2) {
                $self->held(sub { $work->($clients[$number], $number) });
            } else {
                $work->($clients[$number], $number);
            }
        }
    }
    return;
}

1;
