# ruby-pg: unnamed statements with exec_params, named ones with prepare.

require "pg"
require_relative "cases"

class Client
  attr_reader :connection

  def initialize
    @connection = PG.connect
  end

  def texts(sql)
    @connection.exec(sql).column_values(0)
  end

  def text(sql)
    texts(sql).first
  end

  def run(sql)
    @connection.exec(sql)
  end

  def begin
    run("begin")
  end

  def commit
    run("commit")
  end

  def rollback
    run("rollback")
  end

  def close
    @connection.close
  end
end

crowd_test "connect" do |crowd|
  crowd.turns(2) do |client, number|
    equal(client.connection.exec_params("select current_user, $1::int", [number]).values, [["app", number.to_s]])
  end
  equal(crowd.last.connection.server_version >= 150_000, true)
end

crowd_test "prepared" do |crowd|
  # One name, another statement on each connection.
  crowd.clients.each_with_index do |client, number|
    client.connection.prepare("by_name", "select $1::int + #{100 * number}, $2::text")
  end
  crowd.turns(20) do |client, number|
    equal(client.connection.exec_prepared("by_name", [number, "é'\\"]).values, [[(101 * number).to_s, "é'\\"]])
  end
  equal(crowd.clients[3].connection.describe_prepared("by_name").nparams, 2)
  crowd.clients.each { |client| client.run("deallocate by_name") }
  crowd.turns(2) { |client, _| fails("26000") { client.connection.exec_prepared("by_name", [1, "x"]) } }
end

crowd_test "prepared_concurrently", 6 do |crowd|
  crowd.at_once do |client, number|
    client.connection.prepare("double", "select $1::int * 2, $2::int")
    50.times do |n|
      equal(client.connection.exec_prepared("double", [n, number]).values, [[(2 * n).to_s, number.to_s]])
      client.connection.transaction do |connection|
        equal(connection.exec_params("select $1::int * 3", [n]).values, [[(3 * n).to_s]])
      end
    end
    client.run("deallocate all")
  end
end

crowd_test "prepared_and_failing" do |crowd|
  crowd.clients.each { |client| client.connection.prepare("divide", "select 6 / $1::int") }
  crowd.turns(6) do |client, number|
    fails("22012") { client.connection.exec_prepared("divide", [0]) }
    fails("42P01") { client.connection.prepare("wrong", "select * from no_such_table") }
    equal(client.connection.exec_prepared("divide", [number + 1]).values, [[(6 / (number + 1)).to_s]])
  end
end

crowd_test "pipeline" do |crowd|
  crowd.turns(4) do |client, number|
    connection = client.connection
    connection.enter_pipeline_mode
    20.times { |n| connection.send_query_params("select $1::int + $2::int", [n, number]) }
    connection.pipeline_sync
    got = Array.new(20) do
      value = connection.get_result.values
      connection.get_result
      value
    end
    equal(got, Array.new(20) { |n| [[(n + number).to_s]] })
    equal(connection.get_result.result_status, PG::PGRES_PIPELINE_SYNC)
    connection.exit_pipeline_mode
  end
end

COLUMNS = "an_int, a_bigint, a_numeric, a_float, a_bool, a_text, a_timestamptz, a_date, a_uuid, a_json, ints, texts, " \
          "nothing".freeze

crowd_test "types_text" do |crowd|
  sent = ["-2147483648", "9007199254740993", "12345678901234567890.000000001", "0.1", "t", "Grüße, 世界 🐘 '\"\\",
          "2024-02-29 12:34:56.789012+00", "2024-02-29", "0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11",
          "{\"list\": [1, null, \"é\"]}", "{3,-1,2}", "{\"a b\",\"ü,\\\"\",\"\"}", nil]
  marks = (1..sent.size).map { |at| "$#{at}" }.join(", ")
  crowd.last.run("delete from everything")
  crowd.turns(1) do |client, number|
    client.connection.exec_params("insert into everything (id, #{COLUMNS}) values (#{number}, #{marks})", sent)
  end
  crowd.turns(4) do |client, number|
    equal(client.connection.exec_params("select #{COLUMNS} from everything where id = $1", [number]).values, [sent])
  end
end

crowd_test "types_binary" do |crowd|
  bytes = { value: "\x00\x01'\\\xfe\xff".b, format: 1 }
  crowd.turns(4) do |client, number|
    result = client.connection.exec_params("select $1::bytea, $2::int, true, 'ü', null, 0.1::float8", [bytes, number], 1)
    equal(result.values,
          [["\x00\x01'\\\xfe\xff".b, [number].pack("N"), "\x01".b, "ü".b, nil, [0.1].pack("G")].map { |v| v&.b }])
  end
end

crowd_test "types_mapped" do |crowd|
  crowd.turns(4) do |client, number|
    client.connection.type_map_for_results = PG::BasicTypeMapForResults.new(client.connection) if number.zero?
    client.connection.type_map_for_queries = PG::BasicTypeMapForQueries.new(client.connection)
    row = client.connection.exec_params("select $1::int[], $2::float8, $3::bool", [[1, 2], 0.1, true]).values
    equal(row, number.zero? ? [[[1, 2], 0.1, true]] : [["{1,2}", "0.1", "t"]])
  end
end

crowd_test "copy" do |crowd|
  crowd.last.run("delete from account")
  crowd.turns(2) do |client, number|
    client.run("delete from account where id / 1000 = #{number}")
    lines = (0...500).map { |n| "#{1000 * number + n}\tähm #{n}\t#{n}\n" }
    client.connection.copy_data("copy account from stdin") do
      lines.each { |line| client.connection.put_copy_data(line) }
    end
    out = []
    client.connection.copy_data("copy (select * from account where id / 1000 = #{number} order by id) to stdout") do
      while (line = client.connection.get_copy_data)
        out << line.force_encoding("UTF-8")
      end
    end
    equal(out, lines)
    fails("23505") do
      client.connection.copy_data("copy account from stdin") { client.connection.put_copy_data(lines.first) }
    end
  end
  equal(crowd.last.text("select count(*) from account"), "2500")
end

crowd_test "cursor" do |crowd|
  crowd.turns(2) do |client, number|
    client.connection.transaction do |connection|
      connection.exec_params("declare walk cursor for select n + $1::int from generate_series(1, 1000) n", [number])
      total = 0
      until (rows = connection.exec("fetch 90 from walk")).ntuples.zero?
        total += rows.column_values(0).sum(&:to_i)
      end
      equal(total, 500_500 + 1000 * number)
    end
  end
end

crowd_test "single_rows" do |crowd|
  crowd.turns(3) do |client, number|
    client.connection.send_query_params("select n * $1::int from generate_series(1, 3000) n", [number])
    client.connection.set_single_row_mode
    total = 0
    client.connection.get_result.stream_each_row { |row| total += row.first.to_i }
    client.connection.get_last_result
    equal(total, 4_501_500 * number)
  end
end

def notified(client, seconds = 10)
  client.connection.wait_for_notify(seconds) { |channel, _pid, payload| return "#{channel}: #{payload}" }
  nil
end

crowd_test "listen_notify", 3 do |crowd|
  listener, sender, other = crowd.clients
  listener.run("listen news")
  6.times do |number|
    sender.connection.exec_params("select pg_notify('news', $1)", ["idle #{number}"])
    equal(other.text("select 'somebody else'"), "somebody else")
    equal(notified(listener), "news: idle #{number}")
  end
  listener.begin
  equal(listener.text("select 'busy'"), "busy")
  sender.run("notify news, 'in a transaction'")
  listener.commit
  equal(notified(listener), "news: in a transaction")
  listener.run("listen last")
  listener.run("unlisten news")
  sender.run("notify news, 'nobody'")
  sender.run("notify last, 'the end'")
  equal(notified(listener), "last: the end")
  equal([notified(sender, 0.05), notified(other, 0.05)], [nil, nil])
  listener.run("unlisten *")
end

crowd_test "cancel", 3 do |crowd|
  crowd.turns(2) do |client, _|
    client.connection.send_query("select pg_sleep(10)")
    canceller = Thread.new do
      sleep 0.3
      client.connection.cancel
    end
    fails("57014") { client.connection.get_last_result }
    canceller.join
    equal(client.text("select 'on'"), "on")
  end
end

crowd_test "reset", 3 do |crowd|
  crowd.turns(2) do |client, number|
    client.run("set app.custom = 'before #{number}'")
    client.connection.reset
    equal(client.text("select coalesce(current_setting('app.custom', true), '')"), "")
  end
end

require_relative "session_cases"
main("ruby-pg", PG::VERSION)
