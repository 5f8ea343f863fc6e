-- Take a waiter off tasks. Idempotent.
-- KEYS    task hashes
-- ARGV    1 channel (without prefix)
-- returns nothing
for _, key in ipairs(KEYS) do
  local channels = redis.pcall('HGET', key, 'c')
  if type(channels) == 'table' and not is_damage(channels.err) then return channels end
  if type(channels) == 'string' then
    local left = {}
    for channel in string.gmatch(channels, '%S+') do
      if channel ~= ARGV[1] then left[#left + 1] = channel end
    end
    if #left == 0 then
      redis.call('HDEL', key, 'c')
    else
      redis.call('HSET', key, 'c', table.concat(left, ' '))
    end
  end
end
