-- Take the leases of a batch of tasks. Idempotent: the same nonce again gets the same answer.
-- KEYS    1 death certificates, 2.. task hashes
-- ARGV    1 lease in ms, 2 ttl of an unfinished task in seconds, 3 worker, 4 suspects that may be granted,
--         5 crashes from which a task is a suspect, 6.. for each task: nonce, home or empty
-- returns four integers for each task: verdict (attempt, or 0 final, -1 wait, -2 suspect, -3 damaged, -4 foreign), crashes, failures,
--         wait in ms. Damaged: what was stored of the task can't be read. The task is held, as attempt 0, to be ended FAILED.
--         Foreign: the id belongs to another home (field h), and nothing is changed.
local lease_end = string.format('%d', now + ARGV[1])
local ttl, worker = ARGV[2], ARGV[3]
local suspects, suspect_from = tonumber(ARGV[4]), tonumber(ARGV[5])
local out, held_back = {}, {}

-- The death certificate, or false. By pcall: a damaged key certifies nobody.
local function is_dead(name)
  local found = redis.pcall('HGET', KEYS[1], name)
  return type(found) == 'string' and found
end

-- A request of a killed process may arrive after its certificate. A lease that nobody uses would be
-- charged to the task as a crash.
if is_dead(worker) then
  for at = 0, (#KEYS - 2) * 4, 4 do
    out[at + 1], out[at + 2], out[at + 3], out[at + 4] = -1, 0, 0, tonumber(ARGV[1])
  end
  return out
end

-- home: to be written, or false.
local function grant(key, attempt, nonce, home)
  if home then
    redis.call('HSET', key, 's', 'I', 'a', attempt, 'n', nonce, 'l', lease_end, 'w', worker, 'h', home)
  else
    redis.call('HSET', key, 's', 'I', 'a', attempt, 'n', nonce, 'l', lease_end, 'w', worker)
  end
  return attempt
end

-- A field that must be a whole number: 0 if it is absent, false if it is anything else.
local function whole(text)
  if not text then return 0 end
  return #text < 16 and string.find(text, '^%d+$') and tonumber(text)
end

-- Attempt 0 stays until the task is FAILED, even if workers die meanwhile: it is not known whether the task had ended.
local function hold_damaged(key, task, nonce, home)
  if not task.err and task[2] == '0' then
    if task[1] == 'I' then
      if task[3] == nonce then return -3, 0 end
      local wait = (whole(task[4]) or now) - now
      if wait > 0 and not is_dead(task[5] or '') then return -1, wait end
    end
  else
    local waiters = not task.err and redis.call('HGET', key, 'c')
    set_aside(key, ttl)
    if waiters then redis.call('HSET', key, 'c', waiters) end
  end
  grant(key, 0, nonce, home)
  redis.call('EXPIRE', key, ttl)
  return -3, 0
end

for i = 2, #KEYS do
  local key, nonce, home, at = KEYS[i], ARGV[i * 2 + 2], ARGV[i * 2 + 3], (i - 2) * 4
  home = home ~= '' and home
  local task = redis.pcall('HMGET', key, 's', 'a', 'n', 'l', 'w', 'k', 'f', 'h')
  if task.err and not is_damage(task.err) then return task end
  local state, attempt, due = task[1], whole(task[2]), whole(task[4])
  local crashes, failures = whole(task[6]), whole(task[7])
  local verdict, wait = nil, 0
  local known = task[8]
  if known and not string.find(known, '^%d+$') then known, state = false, '?' end
  if home and known and known ~= home then
    verdict = -4
  elseif state == 'S' or state == 'F' or state == 'C' then
    verdict = 0
  elseif task.err or task[2] == '0' or not (attempt and due and crashes and failures)
    or (state and state ~= 'Q' and state ~= 'I' and state ~= 'R' and state ~= 'D') then
    verdict, wait = hold_damaged(key, task, nonce, home)
  elseif state == 'I' then
    if task[3] == nonce then
      verdict = attempt
      if crashes >= suspect_from then suspects = suspects - 1 end
    else
      wait = due - now
      local certificate = is_dead(task[5] or '')
      if certificate then wait = 0 end
      if wait <= 0 then
        -- The holder is dead or silent. The crash is charged now, whether or not this claim is granted: one that came from
        -- outside for a third only.
        local outside = certificate and string.sub(certificate, -1) == 'o'
        local thirds = outside and (whole(redis.call('HGET', key, 'o')) or 0) + 1 or 0
        if outside and thirds < 3 then
          redis.call('HSET', key, 's', 'Q', 'o', thirds)
        else
          crashes = crashes + 1
          redis.call('HSET', key, 's', 'Q', 'k', crashes)
          if outside then redis.call('HDEL', key, 'o') end
        end
        redis.call('HDEL', key, 'n', 'l', 'w')
      end
    end
  elseif state then
    wait = due - now
    -- A nonce whose attempt has ended is the echo of a claim that was answered long ago, on a connection that was cut
    -- since. Nobody hears the answer: a lease would lie there unused and be charged as a crash.
    if task[3] == nonce then wait = math.max(wait, tonumber(ARGV[1])) end
  end
  if not verdict then
    if wait > 0 then
      verdict = -1
    elseif crashes >= suspect_from then
      verdict, wait = -2, 0
      held_back[#held_back + 1] = { i, attempt, not known and home }
    else
      verdict, wait = grant(key, attempt + 1, nonce, not known and home), 0
      if not state then redis.call('EXPIRE', key, ttl) end
    end
  end
  out[at + 1], out[at + 2], out[at + 3], out[at + 4] = verdict, crashes or 0, failures or 0, wait
end
-- Suspects come last: a repeat of this call must count those that it was granted the first time.
for _, suspect in ipairs(held_back) do
  local i = suspect[1]
  local at = (i - 2) * 4
  if redis.call('HGET', KEYS[i], 's') == 'I' then -- the same task twice in one batch
    out[at + 1], out[at + 4] = -1, tonumber(ARGV[1])
  elseif suspects > 0 then
    suspects = suspects - 1
    out[at + 1] = grant(KEYS[i], suspect[2] + 1, ARGV[i * 2 + 2], suspect[3])
  end
end
return out
