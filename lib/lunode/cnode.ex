defmodule Lunode.CNode do
  @moduledoc """
  The functions of `Bundlex.CNode`, for code that was written for Bundlex.

      alias Lunode.CNode      # was: alias Bundlex.CNode
      require CNode

      {:ok, cnode} = CNode.start_link(:lunode)
      CNode.call(cnode, {:add, 5})

  The program that runs is always `lunode`; nothing of Bundlex is needed. What it runs is told by

    * the application's configuration under the name of the native: the options of
      `Lunode.start_link/1`,

          config :my_app, :lunode, handlers: "priv/handlers"

    * else the environment variables LUNODE_HANDLERS (a script or a folder) and LUNODE_CONFIG.

  Messages go to the default handler: the one called `any`, else `main`, else the only one.

  ## Where it differs from Bundlex

  Bundlex's own functions work with lunode too. These traps of theirs are not in this module:

    * A program that ends before it is ready leaves Bundlex's starter waiting for ever. Here
      `start_link/2` returns `{:error, :spawn_cnode}`, and the reason is logged.
    * Bundlex tells replies apart by the node alone, so after a call that timed out its late reply
      is taken for the answer to the next call. Here each call has a reference, and a late reply
      is dropped. Therefore requests arrive as those of `GenServer.call/3` do: a function named by
      the message is found as ever, and what matches none is for the handler's `handle_call`,
      where with Bundlex it is for `handle_info`.
    * A call to a node that has ended waits for its timeout in Bundlex, or reaches a newer node
      that has the same name. Here it raises at once.
    * Bundlex can't tell why a node ended. Here the process that `monitor/1` watches exits with
      `{:lunode_exit, status}`.
    * Bundlex gives a BEAM without a name the cookie `:bundlex_cookie`, which everybody knows.
      Here it has the cookie of its user, as Erlang does by itself.

  `Lunode` is the richer face: handlers by name, options, supervision.
  """

  alias Lunode.{Options, Server}
  require Logger

  @enforce_keys [:server, :node]
  defstruct @enforce_keys

  @typedoc """
  A node: the process that stands for it on this BEAM, and its name.
  """
  @type t :: %__MODULE__{server: pid, node: node}

  @type on_start_t :: {:ok, t} | {:error, :spawn_cnode | :connect_to_cnode}

  @doc """
  `start_link/2` for the application of the calling module.
  """
  defmacro start_link(native_name) do
    quote do: unquote(__MODULE__).start_link(unquote(calling_app()), unquote(native_name))
  end

  @doc """
  `start/2` for the application of the calling module.
  """
  defmacro start(native_name) do
    quote do: unquote(__MODULE__).start(unquote(calling_app()), unquote(native_name))
  end

  # Outside of a Mix project there is none: then only the environment counts.
  defp calling_app do
    if Code.ensure_loaded?(Mix.Project) and Mix.Project.get() != nil do
      Mix.Project.config()[:app]
    end
  end

  @doc """
  Starts a node and connects to it. The process that stands for the node is linked to the caller:
  the node ends when the caller does.

  The options are the value of `native_name` in the configuration of `app`; see the top of this
  page.

  Returns `{:ok, cnode}`, `{:error, :spawn_cnode}` when the program didn't start within its time
  (5 s unless the option `:start_timeout` says otherwise), or `{:error, :connect_to_cnode}` when
  it takes no connection. The reason is logged.
  """
  @spec start_link(app :: atom, native_name :: atom) :: on_start_t
  def start_link(app, native_name) do
    app |> options(native_name) |> Server.start_link() |> started()
  end

  @doc """
  The same as `start_link/2`, without the link: the node outlives the caller.
  """
  @spec start(app :: atom, native_name :: atom) :: on_start_t
  def start(app, native_name) do
    app |> options(native_name) |> Server.start() |> started()
  end

  defp options(app, native_name) do
    app |> Application.get_env(native_name, []) |> Options.new!()
  end

  defp started({:ok, server}) do
    {:ok, %__MODULE__{server: server, node: Server.fetch_node(server)}}
  end

  defp started({:error, {:connect_failed, text}}) do
    Logger.error("lunode: #{text}")
    {:error, :connect_to_cnode}
  end

  defp started({:error, reason}) do
    text = with {:start_failed, text} <- reason, do: text
    Logger.error("lunode: cannot start: #{if is_binary(text), do: text, else: inspect(text)}")
    {:error, :spawn_cnode}
  end

  @doc """
  Ends the node. Returns `:ok`, or `{:error, :disconnect_cnode}` if it had ended already.
  """
  @spec stop(t) :: :ok | {:error, :disconnect_cnode}
  def stop(%__MODULE__{server: server}) do
    GenServer.stop(server)
  catch
    :exit, _reason -> {:error, :disconnect_cnode}
  end

  @doc """
  Makes the calling process get a `:DOWN` message when the node ends, with the reason
  `{:lunode_exit, status}`.
  """
  @spec monitor(t) :: reference
  def monitor(%__MODULE__{server: server}), do: Process.monitor(server)

  @doc """
  Sends `message` to the default handler and returns what its function returns.

  `timeout` is in milliseconds, or `:infinity`. Raises `RuntimeError` when no reply comes in time,
  or when the node ends. Returns `{:error, reason}` when the handler fails, just as with Bundlex:
  `{:error, :noproc}` if the node has no default handler, `{:error, {:lua_error, term,
  traceback}}` for an error in Lua.
  """
  @spec call(t, message :: term, timeout :: non_neg_integer | :infinity) :: response :: term
  def call(%__MODULE__{server: server, node: node}, message, timeout \\ 5000) do
    unless running?(server), do: raise("The CNode #{inspect(node)} does not run")

    try do
      GenServer.call({:any, node}, message, timeout)
    catch
      :exit, {:timeout, _call} -> raise "Timeout upon call to the CNode #{inspect(node)}"
      :exit, {{:nodedown, _node}, _call} -> raise "The CNode #{inspect(node)} ended during a call"
      :exit, {reason, {GenServer, :call, _args}} -> {:error, reason}
    end
  end

  @doc """
  Sends `message` to the default handler without waiting. If its function returns a value, the
  caller gets it as the message `{node, value}`, where `node` is the node's name.
  """
  @spec send(t, message :: term) :: :ok
  def send(%__MODULE__{server: server, node: node}, message) do
    if running?(server), do: Kernel.send({:any, node}, message)
    :ok
  end

  # The name of a node that has ended may be another's by now.
  defp running?(server), do: node(server) != node() or Process.alive?(server)
end
