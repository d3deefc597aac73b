# ActiveRecord on ruby-pg: named prepared statements for its queries, a pool of connections.

require "active_record"
require "securerandom"
require_relative "cases"

DATABASE = { adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"].to_i, username: ENV["PGUSER"],
             password: ENV["PGPASSWORD"], database: ENV["PGDATABASE"] }.freeze

# Models, on a pool of connections.
class Account < ActiveRecord::Base
  self.table_name = "account"
end
ActiveRecord::Base.establish_connection(DATABASE)
ActiveRecord.default_timezone = :utc if ActiveRecord.respond_to?(:default_timezone=)

class Client
  attr_reader :connection

  def initialize
    @connection = ActiveRecord::Base.postgresql_connection(DATABASE.dup)
  end

  # By the way that queries of models take: prepared, and kept by their text.
  def query(sql, *values)
    binds = values.map do |value|
      type = value.is_a?(Integer) ? ActiveModel::Type::Integer.new : ActiveModel::Type::String.new
      ActiveRecord::Relation::QueryAttribute.new("x", value, type)
    end
    @connection.exec_query(sql, "case", binds, prepare: true)
  end

  def texts(sql)
    query(sql).rows.map(&:first)
  end

  def text(sql)
    texts(sql).first
  end

  def run(sql)
    @connection.execute(sql)
  end

  def begin
    @connection.begin_transaction(joinable: false)
    @connection.materialize_transactions
  end

  def commit
    @connection.commit_transaction
  end

  def rollback
    @connection.rollback_transaction
  end

  def close
    @connection.disconnect!
  end
end

crowd_test "connect" do |crowd|
  crowd.turns(2) do |client, number|
    equal(client.query("select current_user::text, $1::int", number).rows, [["app", number]])
  end
  equal(crowd.last.connection.database_version >= 150_000, true)
end

crowd_test "prepared" do |crowd|
  crowd.turns(20) do |client, number|
    equal(client.query("select $1::int + 1, $2::text", number, "é'\\").rows, [[number + 1, "é'\\"]])
  end
  # The driver has prepared by itself.
  equal(crowd.clients[0].text("select (count(*) > 0)::text from pg_prepared_statements"), "true") if BACKENDS.zero?
end

# More statements than the driver may keep after `clear_cache!`, which deallocates each of them.
crowd_test "prepared_and_cleared", 3 do |crowd|
  crowd.turns(3) do |client, number|
    50.times { |n| equal(client.query("select #{n} + $1::int", number).rows, [[n + number]]) }
    client.connection.clear_cache!
  end
end

crowd_test "prepared_and_failing" do |crowd|
  crowd.turns(6) do |client, number|
    fails("22012") { client.query("select 6 / $1::int", 0) }
    fails("42P01") { client.query("select * from no_such_table") }
    equal(client.query("select 6 / $1::int", number + 1).rows, [[6 / (number + 1)]])
  end
end

# More threads than connections in ActiveRecord's pool (5), and more of those than backends.
test "models_in_threads" do
  Account.delete_all
  threads = Array.new(5) do |number|
    Thread.new do
      Thread.current.report_on_exception = false
      20.times do |n|
        id = 1000 * number + n
        Account.transaction do
          Account.create!(id: id, owner: "é'\\", balance: n)
          Account.where(id: id).lock.first.update!(balance: n + 1)
        end
        equal(Account.find(id).balance, n + 1)
        equal(Account.where(id: id, owner: "é'\\").exists?, true)
      end
    ensure
      ActiveRecord::Base.clear_active_connections!
    end
  end
  threads.each(&:join)
  equal([Account.count, Account.sum(:balance)], [100, 1050])
end

test "nested_transactions" do
  Account.delete_all
  4.times do |number|
    Account.transaction do
      Account.create!(id: number, owner: "a", balance: 1)
      Account.transaction(requires_new: true) do
        Account.create!(id: number + 10, owner: "undone", balance: 1)
        raise ActiveRecord::Rollback
      end
      begin
        Account.transaction(requires_new: true) { Account.create!(id: number, owner: "b", balance: 1) }
      rescue ActiveRecord::RecordNotUnique
        Account.find(number).increment!(:balance)
      end
    end
    fails("22012") do
      Account.transaction(isolation: :serializable) do
        Account.update_all(balance: -1)
        Account.connection.execute("select 1 / 0")
      end
    end
  end
  equal(Account.order(:id).pluck(:id, :owner, :balance), Array.new(4) { |number| [number, "a", 2] })
end

class Everything < ActiveRecord::Base
  self.table_name = "everything"
end

test "types" do
  Everything.delete_all
  sent = { an_int: -2_147_483_648, a_bigint: 9_007_199_254_740_993, a_numeric: BigDecimal("12345678901234567890.000000001"),
           a_float: 0.1, a_bool: true, a_text: "Grüße, 世界 🐘 '\"\\", a_bytea: "\x00\x01'\\\xfe\xff".b,
           a_timestamptz: Time.utc(2024, 2, 29, 12, 34, 56, 789_012), a_date: Date.new(2024, 2, 29),
           a_uuid: "0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11", a_json: { "list" => [1, nil, "é"] },
           a_jsonb: { "deep" => { "x" => 1.5 } }, ints: [3, -1, 2], texts: ["a b", "ü,\"", ""], nothing: nil }
  5.times { |number| Everything.create!(id: number, **sent) }
  Array.new(4) do |number|
    Thread.new do
      8.times do
        got = Everything.find(number)
        sent.each { |name, value| equal(got[name], value) }
        equal(Everything.where(id: number, a_uuid: sent[:a_uuid], a_date: sent[:a_date]).count, 1)
      end
    ensure
      ActiveRecord::Base.clear_active_connections!
    end
  end.each(&:join)
end

test "batches" do
  Account.delete_all
  Account.insert_all((0...500).map { |n| { id: n, owner: "batch", balance: n } })
  Account.upsert_all((400...600).map { |n| { id: n, owner: "again", balance: n } })
  equal(Account.find_each(batch_size: 90).sum(&:balance), 179_700)
  equal(Account.in_batches(of: 100).sum { |batch| batch.where(owner: "again").count }, 200)
end

# What migrations use: advisory locks and DDL in transactions.
test "migration" do
  migration = Class.new(ActiveRecord::Migration[6.1]) do
    def change
      create_table(:made_by_a_migration) { |table| table.jsonb :doc, null: false }
      add_index :made_by_a_migration, :doc, using: :gin
    end
  end
  connection = ActiveRecord::Base.connection
  2.times do
    equal(connection.get_advisory_lock(12_345), true)
    ActiveRecord::Migration.suppress_messages { migration.new.migrate(:up) }
    equal(connection.index_exists?(:made_by_a_migration, :doc), true)
    ActiveRecord::Migration.suppress_messages { migration.new.migrate(:down) }
    equal(connection.release_advisory_lock(12_345), true)
  end
end

crowd_test "listen_notify", 2 do |crowd|
  listener, sender = crowd.clients
  listener.run("listen news")
  6.times do |number|
    sender.run("notify news, 'number #{number}'")
    got = nil
    listener.connection.raw_connection.wait_for_notify(10) { |_channel, _pid, payload| got = payload }
    equal(got, "number #{number}")
    equal(listener.text("select 'works'"), "works")
  end
  listener.run("unlisten *")
end

# reset! is what the pool does with a connection of doubtful state: ROLLBACK, DISCARD ALL, its own settings again.
crowd_test "reset", 4 do |crowd|
  crowd.turns(3) do |client, number|
    client.run("set app.custom = 'before #{number}'")
    client.connection.reset!
    equal(client.text("select coalesce(current_setting('app.custom', true), '')"), "")
    equal(client.query("select $1::int", number).rows, [[number]])
  end
end

test "pool" do
  3.times do
    ActiveRecord::Base.establish_connection(DATABASE)
    threads = Array.new(20) do |number|
      Thread.new do
        ActiveRecord::Base.connection_pool.with_connection do |connection|
          connection.select_value("select '#{number}'")
        end
      end
    end
    equal(threads.map(&:value), Array.new(20, &:to_s))
    ActiveRecord::Base.connection_pool.disconnect!
  end
end

require_relative "session_cases"
main("ActiveRecord", "#{ActiveRecord::VERSION::STRING} (pg #{PG::VERSION})")
