#!/usr/bin/perl
# DBD::Pg: a named statement for a statement handle that is executed twice (pg_switch_prepared), closed by DEALLOCATE when
# the handle goes.

use strict;
use warnings;
use utf8;

use FindBin;
use lib $FindBin::Bin;

use Cases;
use DBD::Pg qw(:pg_types :async);
use DBI;
use Time::HiRes qw(sleep time);

package Client {

    sub new {
        my ($class) = @_;
        my $place = "host=$ENV{PGHOST};port=$ENV{PGPORT};dbname=$ENV{PGDATABASE}";
        my $dbh = DBI->connect("dbi:Pg:$place", $ENV{PGUSER}, $ENV{PGPASSWORD}, { RaiseError => 1, PrintError => 0 });
        return bless { dbh => $dbh, handles => {} }, $class;
    }

    sub dbh { return $_[0]{dbh} }

    # The rows of a query by a handle that stays, and so is prepared on the server.
    sub rows {
        my ($self, $sql, @values) = @_;
        my $handle = $self->{handles}{$sql} //= $self->dbh->prepare($sql);
        $handle->execute(@values);
        return $handle->fetchall_arrayref;
    }

    sub texts {
        my ($self, $sql) = @_;
        return [map { $_->[0] } @{ $self->rows($sql) }];
    }

    sub text     { my ($self, $sql) = @_; return $self->texts($sql)->[0] }
    sub run      { my ($self, $sql) = @_; $self->dbh->do($sql); return }
    sub begin    { $_[0]->dbh->begin_work; return }
    sub commit   { $_[0]->dbh->commit;     return }
    sub rollback { $_[0]->dbh->rollback;   return }

    sub close {
        my ($self) = @_;
        %{ $self->{handles} } = ();
        $self->dbh->disconnect;
        return;
    }
}

crowd_test('connect', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(2, sub {
        my ($client, $number) = @_;
        equal($client->rows('select current_user::text, ?::int', $number), [['app', $number]]);
    });
    equal($crowd->last_one->dbh->ping, 1);
    equal($crowd->last_one->dbh->{pg_server_version} >= 150000 ? 'new' : 'old', 'new');
});

crowd_test('prepared', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(20, sub {
        my ($client, $number) = @_;
        equal($client->rows('select ?::int + 1, ?::text', $number, q{é'\\}), [[$number + 1, q{é'\\}]]);
    });
    if (!backends()) {    # the driver has prepared by itself
        equal(($crowd->clients)[0]->text(q{select (count(*) > 0)::text from pg_prepared_statements}), 'true');
    }
});

crowd_test('prepared_at_once', 5, sub {
    my ($crowd) = @_;
    my $at = 0;
    my @handles = map { $_->dbh->prepare('select ?::int + ' . 100 * $at++, { pg_prepare_now => 1 }) } $crowd->clients;
    $crowd->turns(8, sub {
        my ($client, $number) = @_;
        $handles[$number]->execute($number);
        equal($handles[$number]->fetchall_arrayref, [[101 * $number]]);
    });
});

crowd_test('prepared_many', 3, sub {
    my ($crowd) = @_;
    $crowd->turns(4, sub {
        my ($client, $number) = @_;
        for my $n (0 .. 49) {
            my $handle = $client->dbh->prepare("select $n + ?::int");
            for my $again (1 .. 3) {
                $handle->execute($again);
                equal($handle->fetchall_arrayref, [[$n + $again]]);
            }
        }
    });
});

crowd_test('prepared_and_failing', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(6, sub {
        my ($client, $number) = @_;
        fails('22012', sub { $client->rows('select 6 / ?::int', 0) });
        fails('42P01', sub { $client->rows('select * from no_such_table where x = ?', 1) });
        equal($client->rows('select 6 / ?::int', $number + 1), [[int(6 / ($number + 1))]]);
    });
});

crowd_test('types', 5, sub {
    my ($crowd) = @_;
    my @columns = qw(an_int a_bigint a_numeric a_float a_bool a_text a_timestamptz a_date a_uuid a_json a_jsonb ints texts
        nothing);
    my @sent = (
        '-2147483648', '9007199254740993', '12345678901234567890.000000001', '0.1', 't', qq{Grüße, 世界 🐘 '"\\},
        '2024-02-29 12:34:56.789012+00', '2024-02-29', '0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11',
        '{"list": [1, null, "é"]}', '{"deep": {"x": 1.5}}', [3, -1, 2], ['a b', 'ü,"', ''], undef
    );
    my $bytes = "\x00\x01'\\\xfe\xff";
    my $list = join ', ', @columns;
    $crowd->last_one->run('delete from everything');
    $crowd->turns(1, sub {
        my ($client, $number) = @_;
        my $insert = $client->dbh->prepare(
            "insert into everything (id, a_bytea, $list) values (?, ?" . ', ?' x @columns . ')');
        $insert->bind_param(1, $number);
        $insert->bind_param(2, $bytes, { pg_type => PG_BYTEA });
        $insert->bind_param($_ + 3, $sent[$_]) for 0 .. $#sent;
        $insert->execute;
    });
    my @got = @sent;
    $got[4] = 1;
    $crowd->turns(4, sub {
        my ($client, $number) = @_;
        my ($row) = @{ $client->rows("select $list, a_bytea from everything where id = ?", $number) };
        equal(pop @$row, $bytes);
        equal($row, \@got);
    });
});

crowd_test('copy', 5, sub {
    my ($crowd) = @_;
    $crowd->last_one->run('delete from account');
    $crowd->turns(2, sub {
        my ($client, $number) = @_;
        my $dbh = $client->dbh;
        $client->run("delete from account where id / 1000 = $number");
        my @lines = map { (1000 * $number + $_) . "\tähm $_\t$_\n" } 0 .. 499;
        $dbh->do('copy account from stdin');
        $dbh->pg_putcopydata($_) for @lines;
        $dbh->pg_putcopyend;
        $dbh->do("copy (select * from account where id / 1000 = $number order by id) to stdout");
        my ($line, @out);
        push @out, $line while $dbh->pg_getcopydata($line) >= 0;
        equal(\@out, \@lines);
        fails('23505', sub {
            $dbh->do('copy account from stdin');
            $dbh->pg_putcopydata($lines[0]);
            $dbh->pg_putcopyend;
        });
    });
    equal($crowd->last_one->text('select count(*)::text from account'), '2500');
});

crowd_test('cursor', 5, sub {
    my ($crowd) = @_;
    $crowd->turns(2, sub {
        my ($client, $number) = @_;
        $client->begin;
        $client->run("declare walk cursor for select n + $number from generate_series(1, 1000) n");
        my $total = 0;
        while (my @rows = @{ $client->texts('fetch 90 from walk') }) {
            $total += $_ for @rows;
        }
        $client->commit;
        equal($total, 500500 + 1000 * $number);
    });
});

sub notified {
    my ($client, $seconds) = @_;
    my $end = time + $seconds;
    while (time < $end) {
        my $news = $client->dbh->pg_notifies;
        return "$news->[0]: $news->[2]" if $news;
        sleep 0.01;
    }
    return 'nothing';
}

crowd_test('listen_notify', 3, sub {
    my ($crowd) = @_;
    my ($listener, $sender, $other) = $crowd->clients;
    $listener->run('listen news');
    for my $number (0 .. 5) {
        $sender->rows(q{select pg_notify('news', ?)}, "idle $number");
        equal($other->text(q{select 'somebody else'}), 'somebody else');
        equal(notified($listener, 10), "news: idle $number");
    }
    $listener->begin;
    equal($listener->text(q{select 'busy'}), 'busy');
    $sender->run(q{notify news, 'in a transaction'});
    $listener->commit;
    equal(notified($listener, 10), 'news: in a transaction');
    $listener->run('listen last');
    $listener->run('unlisten news');
    $sender->run(q{notify news, 'nobody'});
    $sender->run(q{notify last, 'the end'});
    equal(notified($listener, 10), 'last: the end');
    equal([notified($sender, 0.05), notified($other, 0.05)], ['nothing', 'nothing']);
    $listener->run('unlisten *');
});

# An asynchronous query and the driver's pg_cancel, which sends a cancel request.
crowd_test('cancel', 3, sub {
    my ($crowd) = @_;
    $crowd->turns(2, sub {
        my ($client, $number) = @_;
        $client->dbh->do('select pg_sleep(10)', { pg_async => PG_ASYNC });
        sleep 0.3;
        my $begin = time;
        equal($client->dbh->pg_cancel ? 'cancelled' : 'not', 'cancelled');
        equal(time - $begin < 5 ? 'soon' : 'late', 'soon');
        equal($client->rows('select ?::int', $number), [[$number]]);
    });
});

crowd_test('without_autocommit', 5, sub {
    my ($crowd) = @_;
    $crowd->last_one->run('delete from account');
    $crowd->turns(4, sub {
        my ($client, $number) = @_;
        local $client->dbh->{AutoCommit} = 0;
        $client->rows('insert into account values (?, ?, 1) on conflict (id) do update set balance = account.balance + 1
            returning id', $number, 'a');
        $client->dbh->pg_savepoint('before');
        fails('23505', sub { $client->rows('insert into account values (?, ?, 0) returning id', $number, 'b') });
        $client->dbh->pg_rollback_to('before');
        $client->dbh->commit;
    });
    equal($crowd->last_one->text('select sum(balance)::text from account'), '20');
});

require 'session_cases.pl';
run_cases('DBD::Pg', $DBD::Pg::VERSION);
