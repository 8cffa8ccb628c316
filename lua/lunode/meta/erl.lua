---@meta erl
-- The globals `erl` and `atom` of a handler, for the Lua language server. Nothing runs this file.
--
-- Times are milliseconds, integers or floats. What waits suspends its own process alone; where
-- waiting is not possible (in a comparator of table.sort, a callback of string.gsub, a finalizer)
-- it raises. What fails on the other side is raised as a tuple {class, reason}: class is
-- atom.exit, atom.error or atom.throw. A wrong argument raises a string with file and line.

-- {==== Types ================================================================================

---An Erlang atom other than true, false and nil, which are Lua's own. Equal by `==`; `tostring`
---gives the name.
---@class erl.Atom: lightuserdata

---The identifier of a process. The same one is the same object.
---@class erl.Pid: userdata
---@field node erl.Atom the node it lives on

---A reference: made once, equal to no other. The same one is the same object.
---@class erl.Ref: userdata
---@field node erl.Atom the node that made it

---A port of a BEAM. The same one is the same object.
---@class erl.Port: userdata
---@field node erl.Atom the node it lives on

---An Elixir fun. Called like a Lua function it runs on its own node; `&Mod.fun/n` runs on the node
---whose message is being handled, else on the owner. Waits 5 s at the most.
---Raises: {class, reason}, as erl.rpc does.
---@class erl.Fun: userdata
---@overload fun(...: any): any

---An integer beyond 64 bits, exact. Results that fit become Lua integers.
---@class erl.Bigint: userdata
---@operator add(number|erl.Bigint): number|erl.Bigint
---@operator sub(number|erl.Bigint): number|erl.Bigint
---@operator mul(number|erl.Bigint): number|erl.Bigint
---@operator div(number|erl.Bigint): number
---@operator idiv(number|erl.Bigint): number|erl.Bigint
---@operator mod(number|erl.Bigint): number|erl.Bigint
---@operator pow(number|erl.Bigint): number|erl.Bigint
---@operator unm: integer|erl.Bigint
---@operator band(number|erl.Bigint): integer|erl.Bigint
---@operator bor(number|erl.Bigint): integer|erl.Bigint
---@operator bxor(number|erl.Bigint): integer|erl.Bigint
---@operator shl(number|erl.Bigint): integer|erl.Bigint
---@operator shr(number|erl.Bigint): integer|erl.Bigint
---@operator bnot: integer|erl.Bigint

---A bitstring that is no whole number of bytes.
---@class erl.Bits: userdata
---@field bytes string its bytes, the unused bits zero
---@operator len: integer

---A list. One that arrived with a nil in it has a fixed length; every other one grows.
---@class erl.List: table
---@field [integer] any

---An improper list: elements 1 to n, and the tail.
---@class erl.Improper: table
---@field [integer] any
---@field tail any

---A tuple: a table of fixed length that keeps nil.
---@class erl.Tuple: table
---@field [integer] any

---A map or struct. `m.name` finds the key "name", else the key atom.name.
---@class erl.Map: table
---@field [any] any

---The caller of a request that has not been answered yet: what erl.reply takes.
---@class erl.From: userdata

---A process that can be sent to, called and monitored: a pid, a name on this node, or the tuple
---{name, node}.
---@alias erl.Server erl.Pid|erl.Atom|erl.Tuple

-- }==== Atoms ================================================================================

---Makes atoms: `atom.ok`, `atom "any name"`. true, false and nil are what they are in Lua.
---Raises: the name has more than 255 characters or is no UTF-8, or the node has too many atoms.
---@class erl.AtomTable
---@field [string] erl.Atom
---@overload fun(name: string): erl.Atom
atom = {}

---@class erl
erl = {}

---The same as the global `atom`.
erl.atom = atom

-- }==== This process and this node ===========================================================

---The pid of the process that runs.
---@return erl.Pid pid
function erl.self() end

---The name of this node.
---@return erl.Atom node
function erl.node() end

---The nodes that are connected to this one.
---@return erl.List nodes atoms
function erl.nodes() end

---Milliseconds since 1970.
---@return number ms a float
function erl.now() end

---Makes a reference.
---@return erl.Ref ref
function erl.ref() end

-- }==== Answering ============================================================================

---The caller that the running function serves; nil when nobody waits for an answer. Keep it to
---answer later.
---@return erl.From? from
function erl.from() end

---Answers a caller.
---Raises: the caller has been answered already, or `value` cannot be sent.
---@param from erl.From what erl.from or erl.receive gave
---@param value any
function erl.reply(from, value) end

---`return erl.noreply` leaves the caller waiting: erl.reply answers it later.
---@type lightuserdata
erl.noreply = {}

-- }==== Sending and calling ==================================================================

---Sends a message. One to a process that does not live is lost, and no error.
---Raises: the node is not connected, or `message` cannot be sent.
---@param dest erl.Server
---@param message any
function erl.send(dest, message) end

---Calls a GenServer or a handler and waits for its answer.
---Raises: {exit, noproc}, {exit, timeout}, {exit, noconnection}, {exit, calling_self}, or
---{exit, reason} with what ended the process that was called.
---@param server erl.Server
---@param request any
---@param ms? number how long to wait, 5000 by default; math.huge for no limit
---@return any value the answer
function erl.call(server, request, ms) end

---Sends a request to a GenServer or a handler, without waiting and without an answer.
---Raises: the node is not connected, or `request` cannot be sent.
---@param server erl.Server
---@param request any
function erl.cast(server, request) end

---Runs a function on another node and waits for what it returns.
---Raises: {error, reason}, {exit, reason} or {throw, value} as the function failed;
---{exit, timeout}; {exit, noconnection}.
---@param node erl.Atom
---@param module erl.Atom for Elixir's Enum: atom "Elixir.Enum"
---@param fun erl.Atom
---@param args any[] its arguments
---@param ms? number how long to wait, 5000 by default; math.huge for no limit
---@return any value
function erl.rpc(node, module, fun, args, ms) end

-- }==== Time =================================================================================

---Sends a message after some time.
---@param dest erl.Server
---@param message any
---@param ms number
---@return erl.Ref timer what erl.cancel takes
function erl.send_after(dest, message, ms) end

---Cancels a timer.
---@param timer erl.Ref what erl.send_after gave
---@return number|false left milliseconds that were left; false: the message is sent already
function erl.cancel(timer) end

---Waits.
---@param ms number
function erl.sleep(ms) end

-- }==== Receiving ============================================================================

---Waits for a message. Those that the filter does not take stay in the mailbox, in order. For a
---GenServer.call the message is the request, and `from` what erl.reply takes.
---@param ms? number how long to wait; without it there is no limit
---@param filter? fun(message: any, from: erl.From?): boolean? true takes the message
---@return any message nil after `ms`
---@return erl.From|"timeout"|nil from nil for what nobody waits for; "timeout" after `ms`
function erl.receive(ms, filter) end

-- }==== Processes ============================================================================

---Starts a process. A function runs with the arguments in a new process of this handler, which
---ends when it returns. An atom names a handler: a lasting process of it runs init with the
---arguments, then takes messages.
---@param f function|erl.Atom
---@param ... any the arguments
---@return erl.Pid pid
function erl.spawn(f, ...) end

---Links the running process with another: when one ends, the other gets its exit signal. A process
---that does not live answers with the exit signal noproc.
---@param pid erl.Pid
function erl.link(pid) end

---Undoes erl.link.
---@param pid erl.Pid
function erl.unlink(pid) end

---Says what an exit signal does to the running process: with true it arrives as the message
---{EXIT, pid, reason}, with false it ends the process.
---@param trap boolean
---@return boolean previous what was set before
function erl.trap_exit(trap) end

---Watches a process: when it ends the message {DOWN, ref, process, pid, reason} arrives, once, and
---at once when it does not live (noproc). Watched by name, {name, node} stands for the pid.
---@param server erl.Server
---@return erl.Ref ref
function erl.monitor(server) end

---Ends the watching. No DOWN for it arrives afterwards, not one already in the mailbox either.
---@param ref erl.Ref what erl.monitor gave
function erl.demonitor(ref) end

---With a reason alone, ends the running process; pcall does not catch it. With a pid, sends that
---process an exit signal; the reason atom.kill ends one that traps exits too.
---@overload fun(reason: any)
---@param pid erl.Pid
---@param reason any
function erl.exit(pid, reason) end

---Gives a process of this node a name.
---Raises: the name is taken, or the process does not live here.
---@param name erl.Atom
---@param pid? erl.Pid the running process by default
function erl.register(name, pid) end

---Finds the process of that name on this node.
---@param name erl.Atom
---@return erl.Pid? pid
function erl.whereis(name) end

-- }==== Terms ================================================================================

---Makes a tuple. It keeps nil: `#t` is the number of arguments.
---@param ... any
---@return erl.Tuple
function erl.tuple(...) end

---Marks a bare table as a list, so that an empty one is sent as one too. Copies a list or tuple
---into a list that grows.
---Raises: the table has a metatable of its own.
---@param t table
---@return erl.List
function erl.list(t) end

---Marks a bare table as a map, so that it is sent as one whatever its keys.
---Raises: the table has a metatable of its own.
---@param t table
---@return erl.Map
function erl.map(t) end

---Makes a map out of a table, its string keys turned into atoms: erl.amap { total = 5 }.
---Raises: a key is there both as a string and as an atom.
---@param t table
---@return erl.Map
function erl.amap(t) end

---Makes an improper list.
---Raises: there is no element, or the tail is a list.
---@param elements any[]
---@param tail any
---@return erl.Improper
function erl.improper(elements, tail) end

---Makes an exact integer of any size.
---Raises: the text is no integer, the float no whole number, or the result too large.
---@param value integer|number|string|erl.Bigint text in decimal or 0x notation
---@return integer|erl.Bigint
function erl.bigint(value) end

---Makes a bitstring; a string when the bits are whole bytes.
---Raises: the string has fewer bits.
---@param bytes string
---@param nbits integer how many bits of it
---@return erl.Bits|string
function erl.bits(bytes, nbits) end

---Stands for nil where Lua keeps none: inside lists and maps. Sent as nil; true in a condition.
---@type lightuserdata
erl.null = {}

---The type of a value as a term: "nil", "boolean", "integer", "bigint", "float", "atom", "binary",
---"bits", "list", "improper", "tuple", "map", "pid", "port", "reference" or "fun"; "table" for a
---bare table. What stands for no term has the name of its Lua type.
---@param value any
---@return string name
function erl.type(value) end

---The value of a key, found exactly: 1 and 1.0 are two keys; tuples, maps and big integers are
---found by value.
---@param map table
---@param key any
---@return any value
function erl.get(map, key) end

---The global `ipairs` of handlers: as Lua's own, but tuples and lists that keep nil are walked to
---their end.
---@param t table
---@return fun(t: table, i: integer): integer?, any
---@return table t
---@return integer start
function erl.ipairs(t) end

---The term in Erlang's external format, as term_to_binary gives it.
---Raises: the value cannot be sent; the message names the path to what is wrong.
---@param value any
---@return string bytes
function erl.encode(value) end

---The value of a term in the external format, as term_to_binary gives it.
---Raises: the bytes are no term, or more than one, or compressed.
---@param bytes string
---@return any value
function erl.decode(bytes) end

-- }==== Log ==================================================================================

---Writes to the node's log, under the handler's name. The values are joined by tabs, as print does.
---@class erl.Log
erl.log = {}

---@param ... any
function erl.log.debug(...) end

---What `print` does too.
---@param ... any
function erl.log.info(...) end

---@param ... any
function erl.log.warning(...) end

---@param ... any
function erl.log.error(...) end

-- }====
