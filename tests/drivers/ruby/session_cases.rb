# The cases that are SQL and therefore the same for all Ruby drivers. The class Client has the methods `texts(sql)`, the
# first column of each row, which is text; `text(sql)`, the first of them; `run(sql)`; `begin`, `commit`, `rollback`.

require_relative "cases"

crowd_test "clients_share_backends" do |crowd|
  seen = Hash.new { |hash, number| hash[number] = [] }
  crowd.turns(4) { |client, number| seen[number] |= [client.text("select pg_backend_pid()::text")] }
  equal(seen.values.map(&:size), [BACKENDS.zero? ? 1 : 2] * 5)
  equal(seen.values.flatten.uniq.size, BACKENDS.zero? ? 5 : BACKENDS)
end

crowd_test "many_connections", 12 do |crowd|
  40.times do |number|
    client = Client.new
    equal(client.text("select '#{number}'"), number.to_s)
    client.close
  end
  crowd.turns(2) { |client, number| equal(client.text("select '#{number}'"), number.to_s) }
end

crowd_test "commit_and_rollback" do |crowd|
  crowd.last.run("delete from account")
  crowd.turns(4) do |client, number|
    client.begin
    client.run("insert into account values (#{number}, 'kept', 1) " \
               "on conflict (id) do update set balance = account.balance + 1")
    client.commit
    client.begin
    client.run("update account set owner = 'lost' where id = #{number}")
    client.rollback
  end
  equal(crowd.last.texts("select concat_ws(' ', id, owner, balance) from account order by id"),
        ["0 kept 4", "1 kept 4", "2 kept 4", "3 kept 4", "4 kept 4"])
end

crowd_test "failed_statement" do |crowd|
  crowd.turns(4) do |client, number|
    client.begin
    fails("22012") { client.text("select (1 / 0)::text") }
    fails("25P02") { client.text("select 'in a failed transaction'") }
    client.rollback
    fails("42P01") { client.text("select x::text from no_such_table") }
    equal(client.text("select '#{number}'"), number.to_s)
  end
end

crowd_test "savepoints" do |crowd|
  crowd.last.run("delete from account")
  crowd.turns(2) do |client, number|
    client.begin
    client.run("insert into account values (#{number}, 'a', 1) on conflict do nothing")
    client.run("savepoint before")
    fails("23505") { client.run("insert into account values (#{number}, 'b', 2)") }
    client.run("rollback to savepoint before")
    client.run("update account set balance = balance + 10 where id = #{number}")
    client.commit
  end
  equal(crowd.last.text("select sum(balance) || min(owner) from account"), "105a")
end

crowd_test "concurrent_transactions", 6 do |crowd|
  crowd.last.run("delete from account")
  crowd.last.run("insert into account select n, 'x', 0 from generate_series(0, 5) n union values (100, 'all', 0)")
  crowd.at_once do |client, number|
    20.times do
      client.begin
      client.run("update account set balance = balance + 1 where id = 100")
      client.run("update account set balance = balance + 1 where id = #{number}")
      client.commit
      equal(client.text("select '#{number}'"), number.to_s)
    end
  end
  equal(crowd.last.texts("select balance::text from account order by id"), ["20"] * 6 + ["120"])
end

ZONES = ["Europe/Berlin", "Asia/Tokyo", "America/New_York", "Africa/Cairo", "Australia/Sydney"].freeze
CUSTOM = "select coalesce(current_setting('app.custom', true), '')".freeze
SETTINGS = "select concat_ws(' ', current_setting('TimeZone'), current_setting('statement_timeout'), " \
           "current_setting('app.custom', true))".freeze

def each_sees_its_own(crowd)
  crowd.turns(6) do |client, number|
    equal(client.text(SETTINGS), "#{ZONES[number]} #{10_001 + number}ms value #{number}")
  end
  # The one that only held a backend has set nothing.
  equal(crowd.last.text(SETTINGS).strip, "UTC 0")
  crowd.clients.each do |client|
    %w[timezone statement_timeout app.custom].each { |name| client.run("set #{name} to default") }
  end
  crowd.turns(2) { |client, _| equal(client.text(SETTINGS).strip, "UTC 0") }
end

crowd_test "set_settings" do |crowd|
  crowd.turns(1) do |client, number|
    client.run("set timezone to '#{ZONES[number]}'")
    client.run("set statement_timeout = #{10_001 + number}")
    client.run("set app.custom = 'value #{number}'")
  end
  each_sees_its_own(crowd)
end

crowd_test "set_config" do |crowd|
  crowd.turns(1) do |client, number|
    client.text("select set_config('TimeZone', '#{ZONES[number]}', false)")
    client.text("select set_config('statement_timeout', '#{10_001 + number}', false)")
    client.text("select set_config('app.custom', 'value #{number}', false)")
  end
  each_sees_its_own(crowd)
end

crowd_test "set_in_transactions" do |crowd|
  crowd.turns(1) do |client, number|
    client.begin
    client.run("set app.custom = 'kept #{number}'")
    client.commit
  end
  crowd.turns(2) do |client, _|
    client.begin
    client.run("set app.custom = 'rolled back'")
    equal(client.text(CUSTOM), "rolled back")
    client.rollback
    client.begin
    client.run("set local app.custom = 'local'")
    equal(client.text(CUSTOM), "local")
    client.commit
  end
  crowd.turns(2) { |client, number| equal(client.text(CUSTOM), "kept #{number}") }
end

crowd_test "search_path" do |crowd|
  crowd.turns(1) do |client, number|
    client.run("create schema if not exists tenant_#{number}")
    client.run("create table if not exists tenant_#{number}.thing as select 'of #{number}'::text as name")
    client.run("set search_path = tenant_#{number}")
  end
  crowd.turns(8) { |client, number| equal(client.text("select name from thing"), "of #{number}") }
  fails("42P01") { crowd.last.text("select name from thing") }
end

crowd_test "sql_prepare" do |crowd|
  crowd.turns(1) { |client, number| client.run("prepare plan_a (int) as select ($1 + #{100 * number})::text") }
  crowd.turns(4) { |client, number| equal(client.text("execute plan_a(1)"), (100 * number + 1).to_s) }
  first, *others = crowd.clients
  fails("26000") { crowd.last.text("execute plan_a(1)") }
  first.run("deallocate plan_a")
  fails("26000") { first.text("execute plan_a(2)") }
  others.each_with_index { |client, at| equal(client.text("execute plan_a(3)"), (100 * at + 103).to_s) }
  first.run("prepare plan_a as select 'again'")
  crowd.held { equal(first.text("execute plan_a"), "again") }
end

crowd_test "statement_timeout", 2 do |crowd|
  hasty, patient = crowd.clients
  nap = "select 'slept' || pg_sleep(0.3)::text"
  hasty.run("set statement_timeout = 100")
  crowd.held { fails("57014") { hasty.text("select pg_sleep(10)::text") } }
  equal(patient.text(nap), "slept")
  fails("57014") { hasty.text("select pg_sleep(10)::text") }
  hasty.run("set statement_timeout = 0")
  crowd.held { equal(hasty.text(nap), "slept") }
end

# What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left.

crowd_test "temp_table" do |crowd|
  exists = "select (to_regclass('pg_temp.scratch') is not null)::text"
  crowd.clients.each_cons(2) do |owner, other|
    owner.run("create temp table scratch (n int)")
    (1..4).each do |count|
      crowd.held do
        owner.begin
        owner.run("insert into scratch values (#{count})")
        owner.commit
        equal(owner.texts("select n::text from scratch order by n"), (1..count).map(&:to_s))
      end
      equal(other.text(exists), "false")
    end
    owner.run("drop table scratch")
    crowd.clients.each { |client| equal(client.text(exists), "false") }
  end
end

crowd_test "advisory_lock" do |crowd|
  crowd.clients.each_cons(2) do |owner, other|
    owner.text("select pg_advisory_lock(4711)::text")
    3.times do
      crowd.held { equal(owner.text("select 'still here'"), "still here") }
      equal(other.text("select pg_try_advisory_xact_lock(4711)::text"), "false")
    end
    crowd.held { equal(owner.text("select pg_advisory_unlock(4711)::text"), "true") }
    equal(other.text("select pg_try_advisory_lock(4711)::text"), "true")
    equal(other.text("select pg_advisory_unlock(4711)::text"), "true")
  end
end

crowd_test "cursor_with_hold" do |crowd|
  crowd.clients.each_cons(2) do |owner, other|
    owner.begin
    owner.run("declare held cursor with hold for select n::text from generate_series(1, 9) n")
    equal(owner.texts("fetch 2 from held"), %w[1 2])
    owner.commit
    crowd.held { equal(owner.texts("fetch 3 from held"), %w[3 4 5]) }
    fails("34000") { other.texts("fetch 1 from held") }
    owner.run("close held")
    fails("34000") { owner.texts("fetch 1 from held") }
  end
end

crowd_test "discard_all" do |crowd|
  first, second = crowd.clients
  second.run("set app.custom = 'of the second'")
  first.run("set app.custom = 'of the first'")
  first.run("prepare plan_b as select 'b'")
  first.run("create temp table scratch (n int)")
  first.text("select pg_advisory_lock(4712)::text")
  first.run("discard all")
  2.times do
    crowd.held do
      equal(first.text(CUSTOM), "")
      equal(first.text("select (to_regclass('pg_temp.scratch') is null)::text"), "true")
    end
    equal(second.text(CUSTOM), "of the second")
  end
  fails("26000") { first.text("execute plan_b") }
  equal(second.text("select pg_try_advisory_lock(4712)::text"), "true")
  equal(second.text("select pg_advisory_unlock(4712)::text"), "true")
  second.run("set app.custom to default")
end
