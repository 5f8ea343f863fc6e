-- QUEUED for every task that is not known yet. Idempotent: a known task is left as it is.
-- KEYS    task hashes
-- ARGV    1 ttl in seconds
-- returns nothing
for _, key in ipairs(KEYS) do
  if redis.call('HSETNX', key, 's', 'Q') == 1 then
    redis.call('EXPIRE', key, ARGV[1])
  end
end
