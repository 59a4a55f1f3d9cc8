# An application with ActiveRecord, which Rails is made of: `rails.rb FILE COMMAND`. Each answer is one line of JSON.
require "active_record"
require "json"

file, command = ARGV
# What docs/orm.md tells to set, on primary and replica alike. Rails 7.1 and newer run the pragma by themselves.
ActiveRecord::Base.establish_connection(adapter: "sqlite3", database: file, timeout: 5000, pool: 5)
mode = ActiveRecord::Base.connection.select_value("PRAGMA journal_mode = WAL")

class Item < ActiveRecord::Base
  self.table_name = "shop_item"
end

told =
  begin
    case command
    when "read" then Item.transaction { { answer: Item.count } }
    when "write"
      Item.create!(name: "new")
      { answer: Item.count }
    end
  rescue ActiveRecord::StatementInvalid => error
    { error: error.cause.message, kind: error.class.name }
  end
puts JSON.generate(told.merge(mode: mode))
