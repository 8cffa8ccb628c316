defmodule Lunode.Options do
  @moduledoc false
  # The options of `Lunode.start_link/1`, checked, in the form that the server uses.

  @defaults [
    :name,
    :handlers,
    :config,
    :node_name,
    :start_timeout,
    env: [],
    log: true
  ]

  @levels [:debug, :info, :warning, :error]

  defstruct @defaults

  @type t :: %__MODULE__{
          name: GenServer.name() | nil,
          handlers: Path.t() | nil,
          config: Path.t() | nil,
          node_name: String.t() | nil,
          env: [{String.t(), String.t() | nil}],
          start_timeout: pos_integer,
          log: Logger.level() | false
        }

  @doc """
  Raises `ArgumentError` naming the option that is unknown or wrong.
  """
  @spec new!(keyword) :: t
  def new!(opts) do
    opts =
      opts |> Keyword.validate!(@defaults) |> Keyword.put_new(:start_timeout, patience(5_000))

    struct!(__MODULE__, Enum.map(opts, fn {key, value} -> {key, check(key, value)} end))
  end

  @doc """
  A time limit of `ms` milliseconds. The tests stretch it where the program runs under valgrind.
  """
  @spec patience(pos_integer) :: pos_integer
  def patience(ms), do: ms * Application.get_env(:lunode, :slower, 1)

  defp check(key, value) do
    case cast(key, value) do
      {:ok, value} -> value
      {:error, wanted} -> raise ArgumentError, "#{key}: must be #{wanted}, got: #{inspect(value)}"
    end
  end

  # The name is GenServer's to check.
  defp cast(:name, name), do: {:ok, name}

  defp cast(key, nil) when key in [:handlers, :config, :node_name], do: {:ok, nil}

  # Made absolute here: a restart must find the same files though the working folder has changed.
  defp cast(key, path) when key in [:handlers, :config] do
    text = IO.chardata_to_string(path)
    if text =~ "\0", do: {:error, "a path"}, else: {:ok, Path.expand(text)}
  rescue
    _not_text in [ArgumentError, FunctionClauseError, UnicodeConversionError] ->
      {:error, "a path"}
  end

  defp cast(:node_name, name) when is_atom(name), do: cast(:node_name, Atom.to_string(name))

  defp cast(:node_name, name) do
    if is_binary(name) and name =~ ~r/\A[A-Za-z0-9_-]{1,128}\z/ do
      {:ok, name}
    else
      {:error, "what stands before the @ of a node name: up to 128 letters, digits, - and _"}
    end
  end

  defp cast(:env, env) do
    pairs = if is_map(env), do: Map.to_list(env), else: env

    if is_list(pairs) and Enum.all?(pairs, &env_pair?/1) do
      {:ok, Enum.map(pairs, fn {name, value} -> {to_string(name), value} end)}
    else
      {:error, "a map or list of names and strings (nil removes the variable)"}
    end
  end

  defp cast(:start_timeout, ms) do
    if is_integer(ms) and ms > 0, do: {:ok, ms}, else: {:error, "milliseconds, more than 0"}
  end

  defp cast(:log, true), do: {:ok, :debug}
  defp cast(:log, log) when log == false or log in @levels, do: {:ok, log}
  defp cast(:log, _other), do: {:error, "true, false, or one of #{inspect(@levels)}"}

  defp env_pair?({name, value}) do
    (is_binary(name) or is_atom(name)) and to_string(name) =~ ~r/\A[^=\0]+\z/ and
      (is_nil(value) or (is_binary(value) and not String.contains?(value, "\0")))
  end

  defp env_pair?(_other), do: false
end
