defmodule Lunode do
  @moduledoc """
  Runs Lua handlers beside your Elixir program and talks to them as to any process.

  `start_link/1` starts the program `lunode` as a node of its own, connected to yours. Each Lua
  script that it runs is a *handler* with a name. To OTP a handler is a process like any other:
  you can `call/4` it, `cast/3` to it, `send/3` it a message, and it crashes and restarts alone,
  without ever putting your BEAM at risk.

      # handlers/counter.lua
      local counter = {}
      function counter:add(k)
        self.n = (self.n or 0) + k
        return self.n
      end
      return counter

      {:ok, cnode} = Lunode.start_link(handlers: "handlers")
      Lunode.call(cnode, :counter, {:add, 5})
      #=> 5

  ## In a supervision tree

      children = [
        {Lunode, name: MyApp.Lua, handlers: Application.app_dir(:my_app, "priv/handlers")}
      ]

      Lunode.call(MyApp.Lua, :counter, {:add, 5})

  The process that `start_link/1` gives lives exactly as long as the program. When the program
  dies, the process exits with `{:lunode_exit, status}`, where `status` is the exit status, or 128
  plus the number of the signal that killed it (137: killed by `kill -9` or for want of memory).
  The supervisor then starts both again, with the same options.

  Several nodes at once, each an operating-system process of its own:

      {PartitionSupervisor, name: MyApp.Lua, child_spec: {Lunode, handlers: "handlers"}}

      Lunode.call({:via, PartitionSupervisor, {MyApp.Lua, key}}, :counter, {:add, 5})

  ## What the node writes

  Each line that the node or a handler writes becomes an event of `Logger` with the level that it
  was written with, and the metadata `:lunode` (the node's name) and `:handler` (who wrote it;
  `"lunode"` for the node itself). A handler can't write a line with the name of another.

  ## Your own node's name

  Nodes talk through Erlang's distribution. If your BEAM has no name yet (`--sname`, `--name`),
  the first `start_link/1` gives it a short one, with the cookie in `~/.erlang.cookie`, and starts
  `epmd` if it doesn't run. To choose them yourself, start Elixir with `--sname` and `--cookie`.
  """

  import Kernel, except: [node: 1, send: 2]
  alias Lunode.{Options, Server}

  @typedoc """
  The process that `start_link/1` gives, or the name it was given. `{:via, module, term}` and
  `{:global, term}` are names too. The name of a node, such as `:"calc@host"`, stands for a node that
  was not started here.
  """
  @type cnode :: GenServer.server()

  @typedoc "The name of a handler: for `counter.lua` it is `:counter`."
  @type handler :: atom

  @type option ::
          {:name, GenServer.name()}
          | {:handlers, Path.t()}
          | {:config, Path.t()}
          | {:env, Enumerable.t()}
          | {:node_name, String.t() | atom}
          | {:start_timeout, pos_integer}
          | {:log, boolean | Logger.level()}

  @typedoc """
  Why a start failed: the program could not start, for the reason in the text (a script that
  doesn't compile, a wrong configuration, no program), or it started and took no connection.
  """
  @type start_error :: {:start_failed, String.t()} | {:connect_failed, String.t()}

  @doc """
  Starts a node, connects to it, and links the process that stands for it to the caller.

  Options:

    * `:handlers` – a script, or a folder where each `NAME.lua` is the handler `NAME`. A script
      that doesn't compile fails the start; one in a folder is logged, the others serve, and calls
      to it say why. Without it the node inherits the variable LUNODE_HANDLERS, or starts empty.
    * `:config` – a configuration file. Without it LUNODE_CONFIG is inherited, or `lunode.lua` in
      the handlers' folder is used if there is one.
    * `:name` – a name to register the process under, as for `GenServer.start_link/3`.
    * `:env` – more environment variables for the program: a map, keyword list, or list of pairs
      of strings. `nil` removes a variable.
    * `:node_name` – what stands before the `@` in the node's name. By default a unique name is
      made and, when the node has ended, used again.
    * `:start_timeout` – milliseconds until the node must be ready, 5000 by default.
    * `:log` – what becomes of the node's output: `true` (the default) logs every line, a level
      (`:debug`, `:info`, `:warning`, `:error`) drops lines below that level, `false` drops all.

  Returns `{:ok, pid}` or `{:error, reason}`; see `t:start_error/0`. The caller stays alive when a
  start fails. An unknown or wrong option raises `ArgumentError`.

      iex> Lunode.start_link(handlers: "broken.lua")
      {:error, {:start_failed, "broken.lua:3: '=' expected near 'oops'"}}
  """
  @spec start_link([option]) ::
          {:ok, pid} | {:error, start_error | {:already_started, pid} | term}
  def start_link(opts) do
    opts |> Options.new!() |> Server.start_link()
  end

  @doc """
  The child specification for a supervisor, made from the options of `start_link/1`. Its id is the
  `:name`, so several nodes with names fit under one supervisor.
  """
  @spec child_spec([option]) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{id: Keyword.get(opts, :name, __MODULE__), start: {__MODULE__, :start_link, [opts]}}
  end

  @doc """
  Sends a request to a handler and waits for what it returns.

  `{:add, 5}` runs the handler's function `add` with 5, `:get` runs `get`; any other request runs
  `handle_call`. A function that returns nothing replies `nil`.

  `timeout` is in milliseconds, or `:infinity`. As with `GenServer.call/3` a call that fails
  exits:

    * `{:timeout, _}` – no reply in time. A reply that comes later is dropped; it never reaches
      your mailbox.
    * `{:noproc, _}` – there is no such handler, or no such node.
    * `{{:undef, name, arity}, _}` – the handler has no such function.
    * `{{:lua_error, term, traceback}, _}` – the function raised an error.
    * `{{:limit, kind, max, used}, _}` – it went beyond one of its limits, or its mailbox is full.
    * `{{:worker_exit, text}, _}` – the worker ended in which a handler runs that is not trusted.
    * `{{:nodedown, node}, _}` – the node ended or the connection was lost during the call.

  `Lunode.Error.from_reason/2` makes an exception of such a reason.
  """
  @spec call(cnode, handler, request :: term, timeout) :: reply :: term
  def call(cnode, handler, request, timeout \\ 5_000) do
    case Server.fetch_node(cnode) do
      nil -> exit({:noproc, {__MODULE__, :call, [cnode, handler, request, timeout]}})
      node -> GenServer.call({handler, node}, request, timeout)
    end
  end

  @doc """
  Sends a request to a handler without waiting, and without a reply. Runs the same functions as
  `call/4`, and `handle_cast` for what matches none.

  Returns `:ok` even if there is no such node or handler, as `GenServer.cast/2` does.
  """
  @spec cast(cnode, handler, request :: term) :: :ok
  def cast(cnode, handler, request) do
    case Server.fetch_node(cnode) do
      nil -> :ok
      node -> GenServer.cast({handler, node}, request)
    end
  end

  @doc """
  Sends a plain message to a handler. Runs the same functions as `call/4`, and `handle_info` for
  what matches none.

  Only a message to the name `:any` is answered: if the function returns a value, the calling
  process gets `{node, value}`, where `node` is what `node/1` gives. `:any` is the default handler:
  the one called `any`, else `main`, else the only one.

  Returns `:ok` even if there is no such node or handler.
  """
  @spec send(cnode, handler, message :: term) :: :ok
  def send(cnode, handler, message) do
    with node when node != nil <- Server.fetch_node(cnode) do
      Kernel.send({handler, node}, message)
    end

    :ok
  end

  @doc """
  The name of the node, or `nil` if it doesn't run. With it every function of Elixir that takes
  `{name, node}` works on handlers:

      Process.monitor({:counter, Lunode.node(cnode)})
  """
  @spec node(cnode) :: Kernel.node() | nil
  def node(cnode), do: Server.fetch_node(cnode)

  @doc """
  Starts one more process of a handler, linked to the caller, and waits until its `init` is done.
  The arguments are those of `init`. Made for child specifications:

      %{id: :basket, start: {Lunode, :start_process, [MyApp.Lua, :counter, [0]]}}

  The process lives until it ends by itself, fails, or is told to end. As with
  `GenServer.start_link/3`, an `init` that fails gives `{:error, reason}` to a caller that traps
  exits, as supervisors do, and ends one that doesn't. A handler that the node doesn't have is
  `{:error, {:undef, _}}`, a node that doesn't run `{:error, :noproc}`.

  What goes over the wire: `Node.spawn/5` of `handler.start(...)` with a link and a monitor, and then
  OTP's system message `:resume`, which a process answers when its `init` is done and which changes
  nothing in one that was not suspended.
  """
  @spec start_process(cnode, handler, args :: [term]) :: {:ok, pid} | {:error, reason :: term}
  def start_process(cnode, handler, args \\ []) do
    case Server.fetch_node(cnode) do
      nil -> {:error, :noproc}
      node -> node |> Node.spawn(handler, :start, args, [:link, :monitor]) |> await_init()
    end
  end

  defp await_init({pid, monitor}) do
    Kernel.send(pid, {:system, {self(), monitor}, :resume})

    receive do
      {^monitor, :ok} ->
        Process.demonitor(monitor, [:flush])
        {:ok, pid}

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        forget_exit(pid)
        {:error, reason}
    end
  end

  # Its `:EXIT` may come before the `:DOWN` or after it.
  defp forget_exit(pid) do
    Process.unlink(pid)

    receive do
      {:EXIT, ^pid, _reason} -> :ok
    after
      0 -> :ok
    end
  end

  @doc """
  Ends the node. When it returns, the operating-system process is gone; one that doesn't end
  within 1.5 s of being told is killed. Exits with `:noproc` if it doesn't run.
  """
  @spec stop(cnode) :: :ok
  def stop(cnode), do: GenServer.stop(cnode)

  # {==== Changing what runs, and looking inside ================================================

  @typedoc """
  An error of Lua: the message, or the value that was raised, and the rest of the text as
  `Exception.message/1` of a `Lunode.Error` has it: the source line, the chain of calls, what was
  being handled, and by which version.
  """
  @type lua_error :: {:lua_error, value :: term, traceback :: String.t()}

  @doc """
  Runs Lua in the node and gives its values: of an expression its value, of a chunk what it returns.

  It sees the globals of the handler's script, and may change them; `handler` is what the script
  returned, `self` that of the registered process. With `nil` in place of a handler it runs in a
  fresh environment, which is gone afterwards. It runs as a process of its own, beside the handler's
  other processes, and may wait.

  Errors are `:noproc` (there is no such handler), `t:lua_error/0` (also for what doesn't compile),
  `{:cannot_send, text}` for a value that Elixir has no term for, and the reasons with which
  processes end. A call that takes longer than `timeout` exits as `call/4` does.

      iex> Lunode.eval(cnode, :counter, "self.n, self.n * 2")
      {:ok, [5, 10]}
      iex> Lunode.eval(cnode, nil, "for i = 1, 3 do print(i) end")
      {:ok, []}
  """
  @spec eval(cnode, handler | nil, source :: String.t(), timeout) ::
          {:ok, [term]} | {:error, :noproc | lua_error | {:cannot_send, String.t()} | term}
  def eval(cnode, handler, source, timeout \\ 5_000) do
    call(cnode, :lunode, {:eval, handler, source}, timeout)
  end

  @typedoc """
    * `:memory` – of the handler's whole Lua state: bytes, or `"32M"` (the default); K, M and G are
      powers of 1024.
    * `:time` – that it may run for one message, for `init`, for its top level: milliseconds, or
      `"1s"` (the default); ms, s and m.
    * `:deadline` – that it may run without a place to interrupt it: like `:time`, `"1s"` by default.
    * `:mailbox` – how many messages may wait for one of its processes, 1000 by default.
    * `:message` – of one message that comes in, is sent, or is an answer: like `:memory`, `"1M"` by
      default.
    * `:atoms` – how many it may make that did not exist, 100 by default.
  """
  @type limit ::
          {:memory | :message, pos_integer | String.t()}
          | {:time | :deadline, pos_integer | String.t()}
          | {:mailbox, pos_integer}
          | {:atoms, non_neg_integer}

  @typedoc """
    * `:send` – names of processes that it may send to, call, cast to and monitor, on its own node and
      on those that are connected. `*` stands for any characters, and alone for any pid too. A
      process by which a node is run (`:init`, `:rex` and the like) must be named as it is.
    * `:rpc` – functions that it may call by `erl.rpc`, and of funs: `"Elixir.MyApp.Api.*"` is each
      function of that module.
  """
  @type allowed :: {:send | :rpc, [String.t()]}

  @typedoc """
    * `:trust` – `:full`: the script may do all that one from a file may. `:none` is the default.
    * `:limits` – a map or keyword list, see `t:limit/0`; a trusted script has `:mailbox` alone.
    * `:allow` – a map or keyword list, see `t:allowed/0`: what it may reach, nothing by default.
    * `:isolation` – `:own`: it gets an operating-system process of its own; `:shared`, the default.
    * `:start` – the argument of its `init`.
    * `:modules` – `%{"name" => text}`: what its `require` finds beside Lua's own libraries, for a
      script that is not trusted. (One in a file has the modules in the folder.)
  """
  @type load_option ::
          {:trust, :full | :none}
          | {:limits, [limit] | map}
          | {:allow, [allowed] | map}
          | {:isolation, :own | :shared}
          | {:start, term}
          | {:modules, %{String.t() => String.t()}}

  # The node gives a script's top level 5 s, and many may be loaded at once.
  @load_timeout 30_000

  @doc """
  Loads a handler from text, without a file. Gives its version.

  A handler that has the name already gets the text as its next version: its processes keep `self`
  and take the new code between two messages. In place of a handler from a file it serves until
  `unload/2`; then the file's comes back. When the node starts again, what was loaded so is gone.

  The script is not trusted unless `trust: :full` says so. What the options do not say of limits,
  `:allow` and `:isolation` is as the configuration says of the name (`lunode.lua`, where
  `["tenant_*"]` is a pattern), or else the default. Where they say `send` or `rpc`, their list takes
  the place of the configuration's. A limit that is hit ends the process, and a call exits with
  `{:limit, kind, max, used}`: see `Lunode.LimitError`.

  Errors are `{:untrusted, text}` (the node can't run scripts that are not trusted), `{:bad_option,
  text}`, which names the option, `{:bad_name, text}`, and `t:lua_error/0` or another reason with
  which a process ends, such as a limit; the version that was serving goes on.

      iex> Lunode.load(cnode, :hello, "return function(name) return 'hello ' .. name end", trust: :full)
      {:ok, 1}
      iex> Lunode.call(cnode, :hello, "you")
      "hello you"
      iex> Lunode.load(cnode, :tenant_7, source, limits: [memory: "16M", time: "50ms"], allow: [send: ["audit"]])
      {:ok, 1}
  """
  @spec load(cnode, handler, source :: String.t(), [load_option] | map) ::
          {:ok, version :: pos_integer}
          | {:error, {:untrusted | :bad_option | :bad_name, String.t()} | lua_error | term}
  def load(cnode, name, source, options \\ []) do
    call(cnode, :lunode, {:load, name, source, Map.new(options)}, @load_timeout)
  end

  @doc """
  Removes a handler that `load/4` has loaded. The file that it stood in for serves again; if that
  does not load, nothing changes, and the reason is returned. Without a file, the handler's
  processes end.
  """
  @spec unload(cnode, handler) :: :ok | {:error, reason :: term}
  def unload(cnode, name), do: call(cnode, :lunode, {:unload, name}, @load_timeout)

  @doc """
  Loads a handler's script again, though its file has not changed. Gives the new version.

  Files that change are loaded by themselves; this is for what a script reads beside them.
  """
  @spec reload(cnode, handler) ::
          {:ok, version :: pos_integer} | {:error, :noproc | lua_error | term}
  def reload(cnode, name), do: call(cnode, :lunode, {:reload, name}, @load_timeout)

  @doc """
  The handlers of the node, sorted by name.
  """
  @spec handlers(cnode) :: [Lunode.Handler.t()]
  def handlers(cnode) do
    cnode
    |> call(:lunode, :handlers)
    |> Enum.map(&Lunode.Handler.new/1)
    |> Enum.sort_by(& &1.name)
  end

  @doc """
  What the node counts.
  """
  @spec stats(cnode) :: Lunode.Stats.t()
  def stats(cnode), do: cnode |> call(:lunode, :stats) |> Lunode.Stats.new()

  @doc """
  The version of the program that runs.
  """
  @spec version(cnode) :: String.t()
  def version(cnode), do: call(cnode, :lunode, :version)

  @doc """
  Has events of the node sent to a process, until it ends or `unsubscribe/2` is called. They are
  messages `{:lunode, node, event, handler, details}`, where the details are a map:

  | event | what happened | details |
  | --- | --- | --- |
  | `:loaded` | the first version of a handler is live | `version` |
  | `:reloaded` | a new version is live | `version`, `old` |
  | `:reload_failed` | a new version could not be loaded, `version` goes on serving | an error |
  | `:unloaded` | a handler is gone | |
  | `:crashed` | a process ended with an error | an error |
  | `:down` | the registered process failed too often and stays down | `reason`, a text |
  | `:limit` | a limit was reached | `kind`, `max`, `used` |

  The details of an error have the fields of `Lunode.Error`, and `Lunode.Error.new/2` makes one of
  them.

  Where the module `:telemetry` is there, each node that `start_link/1` starts emits the same as
  events `[:lunode, event]`. Their metadata are the details with `:node`, `:handler` and `:cnode` (the
  pid of `start_link/1`); their measurements are `:system_time` and, for a limit, `:max` and `:used`.
  """
  @spec subscribe(cnode, pid) :: :ok
  def subscribe(cnode, pid \\ self()), do: call(cnode, :lunode, {:subscribe, pid})

  @doc """
  Ends a subscription.
  """
  @spec unsubscribe(cnode, pid) :: :ok
  def unsubscribe(cnode, pid \\ self()), do: call(cnode, :lunode, {:unsubscribe, pid})

  @doc """
  A Lua prompt inside the running node, for IEx.

      iex> Lunode.repl(MyApp.Lua)
      Lua in lunode_1@here. :help tells the commands, :quit leaves.
      lunode> :use counter
      counter> self.n
      5
      counter> for i = 1, 2 do
      counter>>   print(i)
      counter>> end
      1
      2
      counter> :quit
      :ok

  A chunk may take several lines. What it prints comes to the prompt that caused it, not to the log.
  Tab completes the names that are known where the chunk runs. `:use NAME` runs what follows in the
  environment of a handler, as `eval/4` does; without, the prompt has an environment of its own,
  which is gone when it ends. `:help` tells the other commands.

  An evaluation that takes longer than a second is ended by an empty line; other lines are for when
  it is done. (Ctrl-C is the BEAM's own.)

  `lunode attach NODE` is the same in a shell.
  """
  @spec repl(cnode) :: :ok
  def repl(cnode), do: cnode |> node!(:repl) |> Lunode.Repl.run()

  @doc """
  Shows what the handlers do, as a table in the terminal that is refreshed until `q` is pressed.

  A letter sorts by the column whose title has it as its capital: `m` by messages a second, `c` by
  the share of a processor that they take, `w` by the messages that wait, `y` by memory. What happens
  per second is what happened since the last refresh. In a window that is too small the least
  important columns, and the last handlers, are left out.

  Options: `:sort`, what it is sorted by at first (`:messages`, or one of `:name`, `:cpu`, `:mailbox`,
  `:errors`, `:restarts`, `:reloads`, `:processes`, `:longest_slice`, `:memory`), and `:interval`, 1000
  milliseconds unless told otherwise.

  In a shell it is `mix lunode.top NODE`.
  """
  @spec top(cnode, sort: atom, interval: pos_integer) :: :ok
  def top(cnode, opts \\ []), do: cnode |> node!(:top) |> Lunode.Top.run(opts)

  defp node!(cnode, function) do
    Server.fetch_node(cnode) || exit({:noproc, {__MODULE__, function, [cnode]}})
  end

  # }====
end
