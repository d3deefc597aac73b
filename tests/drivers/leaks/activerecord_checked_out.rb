# Threads that check a connection out of ActiveRecord's pool and live on without giving it back.

require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"].to_i, username: ENV["PGUSER"],
  password: ENV["PGPASSWORD"], database: ENV["PGDATABASE"], pool: 3, application_name: "sidekiq-imports"
)
done = Queue.new
3.times do |job|
  Thread.new do
    connection = ActiveRecord::Base.connection_pool.checkout
    connection.select_value("select #{job}")
    done << job
    sleep
  end
end
3.times { done.pop }
$stdout.puts "ready"
$stdout.flush
$stdin.read
