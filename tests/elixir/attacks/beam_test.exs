defmodule Lunode.Attacks.BeamTest do
  @moduledoc "Attacks on the BEAMs that are connected, and on other tenants by way of messages."
  use Lunode.Test.Attack

  # {==== Whom it may send to ====================================================================

  # What an untrusted script may not do says so, and names the function.
  for {what, function, source} <- [
        {"a message to another tenant", "erl.send", "erl.send(atom.neighbour, 'x')"},
        {"a message to another tenant by its node", "erl.send",
         "erl.send(erl.tuple(atom.neighbour, erl.node()), 'x')"},
        {"a request to another tenant", "erl.call",
         "return erl.call(atom.neighbour, atom.intact)"},
        {"a cast to another tenant", "erl.cast", "erl.cast(atom.neighbour, atom.intact)"},
        {"a message to another tenant, later", "erl.send_after",
         "erl.send_after(atom.neighbour, 'x', 0)"},
        {"a monitor of another tenant", "erl.monitor", "erl.monitor(atom.neighbour)"},
        {"a process of another tenant", "erl.spawn", "erl.spawn(atom.neighbour)"},
        {"a process of the trusted handler", "erl.spawn", "erl.spawn(atom.bystander)"},
        {"a name for itself", "erl.register", "erl.register(atom.mine)"},
        {"the name of another tenant", "erl.register",
         "erl.register(atom.neighbour, erl.self())"},
        {"the name of the node's control", "erl.register", "erl.register(atom.lunode)"},
        {"an evaluation by the node's control", "erl.call",
         "erl.call(atom.lunode, erl.tuple(atom.eval, atom.bystander, 'return 1'))"},
        {"a load by the node's control", "erl.call",
         "erl.call(atom.lunode, erl.tuple(atom.load, atom.x, 'return 1', erl.map({})))"},
        {"an unload of another tenant", "erl.cast",
         "erl.cast(atom.lunode, erl.tuple(atom.unload, atom.neighbour))"},
        {"the node's events", "erl.call",
         "erl.call(erl.tuple(atom.lunode, erl.node()), erl.tuple(atom.subscribe, erl.self()))"},
        {"a message to a BEAM's process by its pid", "erl.send", "erl.send(victim, 'x')"},
        {"a message to a BEAM's process by its name", "erl.send",
         "erl.send(erl.tuple(atom.attack_victim, home), 'x')"},
        {"a request to a BEAM's process", "erl.call", "return erl.call(victim, 'x')"},
        {"a cast to a BEAM's process", "erl.cast", "erl.cast(victim, 'x')"},
        {"a message to a BEAM's process, later", "erl.send_after",
         "erl.send_after(victim, 'x', 0)"},
        {"a monitor of a BEAM's process", "erl.monitor", "erl.monitor(victim)"},
        {"a link with a BEAM's process", "erl.link", "erl.link(victim)"},
        {"an exit signal to a BEAM's process", "erl.exit", "erl.exit(victim, atom.kill)"},
        {"a message to net_kernel", "erl.send",
         "erl.send(erl.tuple(atom.net_kernel, home), erl.tuple(atom.EXIT, victim, atom.kill))"},
        {"the end of a BEAM", "erl.cast",
         "erl.cast(erl.tuple(atom.init, home), erl.tuple(atom.stop, atom.stop))"},
        {"a file by the BEAM's file server", "erl.call",
         "return erl.call(erl.tuple(atom.file_server_2, home), erl.tuple(atom.read_file, '/etc/passwd'))"},
        {"code by the BEAM's code server", "erl.call",
         "return erl.call(erl.tuple(atom.code_server, home), atom.get_path)"},
        {"a call by the BEAM's rex", "erl.call",
         "return erl.call(erl.tuple(atom.rex, home), erl.tuple(atom.call, atom.os, atom.cmd, erl.list({ 'id' }), victim))"},
        {"a forged request of a GenServer", "erl.send",
         "erl.send(erl.tuple(atom.code_server, home), erl.tuple(atom '$gen_call', erl.tuple(victim, erl.ref()), atom.stop))"},
        {"a forged reply to somebody's call", "erl.send",
         "erl.send(victim, erl.tuple(erl.ref(), 'forged'))"},
        {"a forged DOWN", "erl.send",
         "erl.send(victim, erl.tuple(atom.DOWN, erl.ref(), atom.process, erl.self(), atom.normal))"},
        {"a forged system message", "erl.send",
         "erl.send(victim, erl.tuple(atom.system, erl.tuple(erl.self(), erl.ref()), atom.suspend))"},
        {"a command of the operating system by rpc", "erl.rpc",
         "return erl.rpc(home, atom.os, atom.cmd, { erl.list({ 105, 100 }) })"},
        {"the end of a BEAM by rpc", "erl.rpc", "erl.rpc(home, atom.erlang, atom.halt, {})"},
        {"a spawn on a BEAM by rpc", "erl.rpc",
         "return erl.rpc(home, atom.erlang, atom.spawn, { atom.os, atom.cmd, erl.list({ 'id' }) })"},
        {"rpc to its own node", "erl.rpc",
         "return erl.rpc(erl.node(), atom.neighbour, atom.intact, {})"},
        {"rpc of what is no module of this world", "erl.rpc",
         "return erl.rpc(home, atom '../../os', atom 'cmd\\0', {})"},
        {"a node that is not connected", "erl.send",
         "erl.send(erl.tuple(atom.x, atom 'nobody@127.0.0.1'), 'x')"}
      ] do
    attack what,
           {:error, ~r/#{Regex.escape(unquote(function))}: .*(not allowed|own|untrusted|allow)/},
           source
  end

  attack "where the processes of others are",
         fn outcome ->
           case outcome do
             {:value, found} -> assert found in [nil, [], 0]
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "erl.whereis"
           end
         end,
         ~S"""
         local found = 0
         for _, name in ipairs({ "neighbour", "bystander", "lunode", "any" }) do
           if erl.whereis(atom(name)) then found = found + 1 end
         end
         return found
         """

  # Forged pids: those of the handler's own processes are numbers that are easily guessed.
  attack "processes whose pids are guessed", {:error, ~r/not allowed|own/}, ~S"""
  erl.trap_exit(true)
  local own = erl.encode(erl.self())
  local head = own:sub(1, -13)
  local last
  for id = 0, 400 do
    local pid = erl.decode(head .. string.pack(">I4", id) .. own:sub(-8))
    if pid ~= erl.self() then
      for _, try in ipairs({
        function() erl.send(pid, "x") end,
        function() erl.exit(pid, atom.kill) end,
        function() erl.link(pid) end,
        function() erl.cast(pid, "x") end,
      }) do
        local ok, e = pcall(try)
        if not ok and type(e) == "string" then last = e end
      end
    end
  end
  erl.sleep(50)
  error(last or "none was refused")
  """

  attack "a pid of the BEAM whose numbers are guessed", {:error, ~r/not allowed|own/}, ~S"""
  local bytes = erl.encode(victim)
  local last
  for id = 0, 200 do
    local pid = erl.decode(bytes:sub(1, -13) .. string.pack(">I4", id) .. bytes:sub(-8))
    local _, e = pcall(erl.exit, pid, atom.kill)
    last = e or last
    pcall(erl.send, pid, "x")
  end
  error(last)
  """

  # }====

  # {==== Funs ===================================================================================

  @fun "\\131q" <> "w\\2osw\\3cmda\\1"

  attack "a forged &:os.cmd/1", {:error, ~r/not allowed|rpc/}, ~s"""
  return erl.decode("#{@fun}")("id")
  """

  attack "a forged &:os.cmd/1 inside pcall and a coroutine", {:error, ~r/not allowed|rpc/}, ~s"""
  local f = erl.decode("#{@fun}")
  local ok, e = pcall(coroutine.wrap(function() return f("id") end))
  error(e)
  """

  attack "a forged &:os.cmd/1 as a filter, a comparator, and a method",
         fn outcome ->
           assert {:value, texts} = outcome
           assert Enum.all?(texts, &(&1 =~ ~r/not allowed|rpc|wait|call|function/))
         end,
         ~s"""
         local f, texts = erl.decode("#{@fun}"), {}
         for _, try in ipairs({
           function() table.sort({ "id", "id" }, f) end,
           function() ("id"):gsub(".*", f) end,
           function() return setmetatable({}, { __index = f }).id end,
           function() return tostring(setmetatable({}, { __tostring = f })) end,
           function() erl.spawn(f, "id") end,
           function() return getmetatable(f).__call(f, "id") end,
           function() return load(f) end,
         }) do
           local ok, e = pcall(try)
           if not ok then texts[#texts + 1] = tostring(e) end
         end
         return erl.list(texts)
         """

  attack "a fun that it was given, which is no licence",
         {:error, ~r/not allowed|rpc/},
         [script: true, run: &__MODULE__.give_fun/2],
         ~S"""
         local t = {}
         function t:go(f) return f() end
         return t
         """

  def give_fun(context, name) do
    test = self()
    outcome = call(context, name, {:go, fn -> send(test, :fun_ran) end})
    refute_received :fun_ran
    outcome
  end

  attack "a reply that is a fun which the caller might call",
         fn outcome ->
           # It comes as it is: who calls what a stranger sends is beyond help.
           assert {:value, f} = outcome
           assert is_function(f, 1)
         end,
         ~s"""
         return erl.decode("#{@fun}")
         """

  # }====

  # {==== Atoms ==================================================================================

  attack "atoms without an end", :atoms, ~S"""
  for i = 1, math.maxinteger do local a = atom("attack_a" .. i) end
  """

  attack "atoms without an end, inside pcall", :atoms, ~S"""
  for i = 1, math.maxinteger do pcall(function() return atom("attack_b" .. i) end) end
  """

  attack "atoms by index", :atoms, ~S"""
  for i = 1, math.maxinteger do local a = atom["attack_c" .. i] end
  """

  attack "atoms by erl.amap", :atoms, ~S"""
  for i = 1, math.maxinteger do erl.amap({ ["attack_d" .. i] = 1 }) end
  """

  attack "atoms by erl.decode", :atoms, ~S"""
  for i = 1, math.maxinteger do
    local name = "attack_e" .. i
    erl.decode("\131w" .. string.char(#name) .. name)
  end
  """

  attack "atoms by one erl.decode", :atoms, ~S"""
  local parts = {}
  for i = 1, 10000 do
    local name = "attack_f" .. i
    parts[i] = "w" .. string.char(#name) .. name
  end
  erl.decode("\131l" .. string.pack(">I4", #parts) .. table.concat(parts) .. "j")
  """

  attack "atoms as the names of pids' nodes", :atoms, ~S"""
  for i = 1, math.maxinteger do
    local name = "attack_g" .. i .. "@h"
    erl.decode("\131Xw" .. string.char(#name) .. name .. ("\0"):rep(12))
  end
  """

  attack "atoms as the modules of funs", :atoms, ~S"""
  for i = 1, math.maxinteger do
    local name = "attack_h" .. i
    erl.decode("\131qw" .. string.char(#name) .. name .. "w\1xa\1")
  end
  """

  attack "atoms that only pass through, undecoded",
         fn outcome ->
           case outcome do
             {:ended, :call, {:limit, :atoms, 100, _}} -> :ok
             {:ended, :call, {:lua_error, _, _}} -> :ok
             {:value, _} -> flunk("a thousand new atoms came to the BEAM")
           end
         end,
         ~S"""
         local parts = {}
         for i = 1, 1000 do
           local name = "attack_i" .. i
           parts[i] = "w" .. string.char(#name) .. name
         end
         return erl.decode("\131l" .. string.pack(">I4", #parts) .. table.concat(parts) .. "j")
         """

  # What it may make in all, not each time that it starts again.
  attack "a hundred atoms a message, from one life to the next",
         fn outcome ->
           assert {:value, made} = outcome
           assert made <= 150
         end,
         [run: &__MODULE__.atoms_again/2, script: true],
         ~S"""
         local t = {}
         function t:go(n)
           local list = {}
           for i = 1, 60 do list[i] = atom("attack_j" .. n .. "_" .. i) end
           return list
         end
         return t
         """

  # How many new atoms come to this BEAM from 20 calls; each new life of the VM begins by an error.
  def atoms_again(context, name) do
    before = :erlang.system_info(:atom_count)
    for n <- 1..20, do: call(context, name, {:go, n}) && Process.sleep(50)
    {:value, :erlang.system_info(:atom_count) - before}
  end

  attack "known atoms, which cost nothing", {:value, 3000}, ~S"""
  local n = 0
  for i = 1, 1000 do
    if atom.ok and atom.error and atom.undefined then n = n + 3 end
  end
  return n
  """

  attack "atoms that others send, which are not its own",
         {:value, 300},
         [run: &__MODULE__.send_atoms/2, script: true],
         ~S"""
         local t = {}
         function t:go(atoms) return #atoms end
         return t
         """

  def send_atoms(context, name) do
    call(context, name, {:go, for(n <- 1..300, do: :"attack_given_#{n}")})
  end

  attack "an atom that is no text", {:error, ~r/UTF|atom/}, ~S"""
  return atom("\255\254")
  """

  attack "an atom that is too long", {:error, ~r/255|atom/}, ~S"""
  return atom(("x"):rep(256))
  """

  attack "light userdata that are no atoms", fn outcome -> assert {:value, _} = outcome end, ~S"""
  local n = 0
  for i = 0, 255 do
    local ok = pcall(erl.decode, "\131R" .. string.char(i))
    if ok then n = n + 1 end
  end
  return n
  """

  # }====

  # {==== Answers ================================================================================

  attack "an answer to a call that is none", {:error, ~r/reply.*from expected/}, ~S"""
  erl.reply(erl.tuple(victim, erl.ref()), "forged")
  """

  attack "an answer to a pid", {:error, ~r/reply.*from expected/}, ~S"""
  erl.reply(victim, "forged")
  """

  attack "two answers to one call",
         fn outcome ->
           assert outcome == {:value, 1}
           refute_received _
         end,
         ~S"""
         local from = erl.from()
         erl.reply(from, 1)
         local ok = pcall(erl.reply, from, 2)
         if ok then hijacked = true end
         for _ = 1, 100 do pcall(erl.reply, from, 3) end
         return 4
         """

  attack "an answer to another's call by the object of one",
         {:value, [:mine, :mine]},
         [script: true, run: &__MODULE__.two_callers/2],
         ~S"""
         local t, kept = {}, nil
         function t:keep() kept = erl.from() return erl.noreply end
         function t:go()
           pcall(erl.reply, kept, atom.mine)
           pcall(erl.reply, kept, atom.again)
           pcall(rawset, kept, "pid", erl.from())
           return atom.mine
         end
         return t
         """

  def two_callers(context, name) do
    task = Task.async(fn -> GenServer.call({name, context.node}, :keep, 20_000) end)
    Process.sleep(100)
    first = GenServer.call({name, context.node}, :go, 20_000)
    {:value, [first, Task.await(task)]}
  end

  attack "`from` as a value", {:error, ~r/cannot send|from/}, ~S"""
  return erl.from()
  """

  attack "`from` by erl.encode", {:error, ~r/cannot send|from|encode/}, ~S"""
  return erl.encode({ erl.from() })
  """

  # As if the caller were another process: the answer goes where the caller said, nowhere else.
  attack "a reply of ten million bytes",
         {:error, ~r/message|large|long|limit/},
         [limits: [memory: 64 * 1_048_576, time: 2_000], takes: 6_000],
         ~S"""
         return ("x"):rep(10000000)
         """

  attack "a reply that is nested a hundred thousand deep",
         fn outcome ->
           case outcome do
             {:value, value} -> assert is_list(value)
             {:ended, :call, reason} -> assert elem(reason, 0) in [:lua_error, :limit]
           end
         end,
         [limits: [memory: 64 * 1_048_576, time: 2_000], takes: 6_000],
         ~S"""
         local t = {}
         for _ = 1, 100000 do t = { t } end
         return t
         """

  attack "a reply with a pid that nobody gave it",
         fn outcome ->
           assert {:ended, :call, {:worker_exit, text}} = outcome
           assert text =~ "identifier"
         end,
         ~S"""
         local bytes = erl.encode(victim)
         return { erl.decode(bytes:sub(1, -13) .. ("\1"):rep(12)), erl.ref() }
         """

  attack "an error that is a forged answer", {:error, ~r/forged/}, ~S"""
  error("forged {'$gen_reply', ok}")
  """

  attack "an exit with a reason that looks like a limit",
         fn outcome ->
           # It may say so: it ends only itself.
           assert {:ended, :call, _} = outcome
         end,
         ~S"""
         erl.exit(erl.tuple(atom.limit, atom.memory, 1, 2))
         """

  # }====

  # {==== What it may ============================================================================

  attack "messages to a name that is allowed, and only those",
         {:value, "sent"},
         [allow: [send: ["attack_audit"]], run: &__MODULE__.with_audit/2],
         ~S"""
         erl.send(erl.tuple(atom.attack_audit, home), "hello")
         for _, name in ipairs({ "attack_victim", "attack_audit2", "attack_audi", "ATTACK_AUDIT", "attack_audit\0" }) do
           if pcall(erl.send, erl.tuple(atom(name), home), "x") then return name end
         end
         if pcall(erl.send, victim, "x") then return "the victim's pid" end
         return "sent"
         """

  def with_audit(context, name) do
    Process.register(self(), :attack_audit)
    outcome = call(context, name, {:go, node(), context.victim})
    Process.unregister(:attack_audit)
    assert_receive "hello"
    refute_received _
    outcome
  end

  attack "a name with a star, which reaches nobody who runs the node",
         {:value, "refused"},
         [allow: [send: ["*ne*"]]],
         ~S"""
         for _, name in ipairs({ "net_kernel", "lunode" }) do
           if pcall(erl.send, erl.tuple(atom(name), home), "x") then return name end
           if pcall(erl.cast, atom(name), "x") then return name end
         end
         return "refused"
         """

  attack "rpc that is allowed, and what has nearly its name",
         {:value, "ABC"},
         [allow: [rpc: ["Elixir.String.upcase"]]],
         ~S"""
         local text = erl.rpc(home, atom "Elixir.String", atom.upcase, { "abc" })
         for _, try in ipairs({
           { "Elixir.String", "downcase" }, { "Elixir.String.upcase", "x" }, { "Elixir", "String.upcase" },
           { "Elixir.StringX", "upcase" }, { "erlang", "apply" }, { "os", "cmd" },
         }) do
           if pcall(erl.rpc, home, atom(try[1]), atom(try[2]), { "abc" }) then return try[1] end
         end
         return text
         """

  attack "a flood of messages to who is allowed",
         :time,
         [allow: [send: ["attack_flood"]], run: &__MODULE__.with_flood/2, limits: [time: 20]],
         # Short: what it sends in its time is paced, and a fast machine sends much.
         ~S"""
         local s = ("x"):rep(20)
         while true do erl.send(erl.tuple(atom.attack_flood, home), s) end
         """

  def with_flood(context, name) do
    Process.register(self(), :attack_flood)
    outcome = call(context, name, {:go, node(), context.victim})
    Process.unregister(:attack_flood)
    flush()
    outcome
  end

  defp flush do
    receive do
      _ -> flush()
    after
      0 -> :ok
    end
  end

  attack "a message that is too long for who is allowed",
         {:error, ~r/erl\.send.*(message|large|long|limit)/},
         [allow: [send: ["attack_audit"]]],
         ~S"""
         erl.send(erl.tuple(atom.attack_audit, home), ("x"):rep(3000000))
         """

  attack "calls that nobody answers, in as many processes as there may be",
         {:limit, [:time, :memory, :mailbox]},
         [allow: [send: ["attack_silent"]], run: &__MODULE__.with_silent/2],
         ~S"""
         while true do
           erl.spawn(function() erl.call(erl.tuple(atom.attack_silent, home), "x", math.huge) end)
         end
         """

  def with_silent(context, name) do
    silent = spawn(fn -> Process.sleep(:infinity) end)
    Process.register(silent, :attack_silent)
    outcome = call(context, name, {:go, node(), context.victim})
    Process.exit(silent, :kill)
    outcome
  end

  # }====

  # {==== Its own end ============================================================================

  attack "exits that are trapped, and time", :time, ~S"""
  erl.trap_exit(true)
  while true do pcall(erl.receive, 0) end
  """

  attack "a kill, while it traps exits and loops",
         {:value, :killed},
         [script: true, run: &__MODULE__.kill/2],
         ~S"""
         local t = {}
         function t:go() erl.trap_exit(true) while true do pcall(erl.sleep, 1) end end
         function t:terminate() while true do end end
         return t
         """

  def kill(context, name) do
    pid = Node.spawn(context.node, name, :start, [])
    ref = Process.monitor(pid)
    GenServer.cast(pid, :go)
    Process.sleep(20)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, reason}, 5_000
    # It may have come to its time before.
    {:value, if(match?({:limit, :time, _, _}, reason), do: :killed, else: reason)}
  end

  attack "processes that link one another and fall together", :refused, ~S"""
  local first = erl.self()
  for _ = 1, 500 do erl.spawn(function() erl.link(first) erl.sleep(1000) end) end
  erl.sleep(20)
  error("down")
  """

  attack "a message that is too long for it",
         fn outcome ->
           assert {:value, [{:limit, :message, 1_048_576, used}, "alive"]} = outcome
           assert used > 3_000_000
         end,
         [run: &__MODULE__.long_message/2],
         ~S"""
         """

  def long_message(context, name) do
    {:ended, :call, reason} = call(context, name, {:go, String.duplicate("x", 3_000_000)})
    {:value, alive} = call(context, name, :alive)
    {:value, [reason, alive]}
  end

  attack "more messages than it has room for",
         fn outcome ->
           assert {:value, reasons} = outcome
           assert Enum.any?(reasons, &match?({:limit, :mailbox, 1000, _}, &1))
         end,
         [script: true, run: &__MODULE__.many_callers/2, takes: 10_000],
         ~S"""
         local t = {}
         function t:go() erl.sleep(500) return "done" end
         return t
         """

  def many_callers(context, name) do
    requests = for _ <- 1..1_500, do: :gen_server.send_request({name, context.node}, :go)
    # The last ones are told at once.
    reasons =
      for r <- Enum.take(requests, -300) do
        case :gen_server.receive_response(r, 10_000) do
          {:error, {reason, _}} -> reason
          other -> other
        end
      end

    {:value, reasons}
  end

  # }====
end
