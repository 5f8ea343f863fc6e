-- Store how attempts ended, and tell the waiters. Accepted only from the attempt that holds the lease, by nonce and
-- attempt; a lease that is over but that nobody has taken still counts, since nothing else can have run meanwhile.
-- Idempotent: the repeat of an accepted finish is accepted and changes nothing.
-- KEYS    task hashes
-- ARGV    1 result ttl, 2 ttl of an unfinished task (seconds), 3 prefix of the waiters' channels,
--         then for each task: id, nonce, attempt, state letter, payload, due in ms (for R),
--         restorable (0, or 1, or the home to be written with it)
-- returns one integer for each task: 1 accepted, 0 fenced
local out, news = {}, {}
for i, key in ipairs(KEYS) do
  local at = i * 7 - 3
  local nonce, attempt, state, payload = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local task = redis.pcall('HMGET', key, 's', 'n', 'a', 'c', 'f')
  if task.err and not is_damage(task.err) then return task end
  local held = task[1] == 'I' and task[2] == nonce and task[3] == attempt
  if held or (ARGV[at + 6] ~= '0' and is_lost(key, task, attempt, ARGV[2])) then
    if not held then set_home(key, ARGV[at + 6]) end
    if state == 'R' then
      redis.call('HSET', key, 's', 'R', 'a', attempt, 'n', nonce, 'r', payload, 'f', (tonumber(task[5] or 0) or 0) + 1,
        'l', string.format('%d', now + ARGV[at + 5]))
      redis.call('HDEL', key, 'w')
      redis.call('EXPIRE', key, ARGV[2] + math.floor(ARGV[at + 5] / 1000))
    else
      -- Each write costs Redis its own time and, with an append-only file, a line of it: a held task has its attempt and
      -- nonce already, its worker stays as who ran it, and its lease end says nothing any more.
      if held then
        redis.call('HSET', key, 's', state, 'r', payload)
      else
        redis.call('HSET', key, 's', state, 'r', payload, 'a', attempt, 'n', nonce)
      end
      redis.call('EXPIRE', key, ARGV[1])
      if task[4] then
        redis.call('HDEL', key, 'c')
        local line = ARGV[at] .. '\t' .. state .. '\t' .. attempt .. '\t' .. payload
        for channel in string.gmatch(task[4], '%S+') do
          news[channel] = news[channel] and (news[channel] .. '\n' .. line) or line
        end
      end
    end
    out[i] = 1
  elseif task[2] == nonce and task[1] == state then
    out[i] = 1
  else
    out[i] = 0
  end
end
-- By pcall: a hint that can't be given must not undo what is stored.
for channel, lines in pairs(news) do redis.pcall('PUBLISH', ARGV[3] .. channel, lines) end
return out
