defmodule Mix.Tasks.Lunode.Top do
  @shortdoc "Shows what the handlers of a node do, as a live table"

  @moduledoc """
  Shows what the handlers of a running node do, as a table that is refreshed: see `Lunode.top/2`.

      mix lunode.top NODE [--cookie-file FILE] [--sort KEY] [--interval MS]

  NODE is the node's name; without `@` it is one on this machine. The cookie is read from the file,
  else it is that of the variable BUNDLEX_ERLANG_COOKIE, else that of `~/.erlang.cookie`.
  """
  use Mix.Task

  alias Lunode.{Distribution, Top}

  @switches [cookie_file: :string, sort: :string, interval: :integer]

  @impl true
  def run(args) do
    {opts, node} = parse(args)
    node = connect(node, cookie(opts[:cookie_file]))

    Top.run(
      node,
      for({key, value} when key != :cookie_file <- opts, do: {key, option(key, value)})
    )
  end

  defp parse(args) do
    case OptionParser.parse(args, strict: @switches) do
      {opts, [node], []} ->
        {opts, node}

      {_opts, _nodes, [{switch, _value} | _]} ->
        Mix.raise("lunode.top: #{switch}: see mix help lunode.top")

      _other ->
        Mix.raise("lunode.top: wants the name of one node: see mix help lunode.top")
    end
  end

  defp option(:sort, text) do
    Enum.find(Top.Table.keys(), &(Atom.to_string(&1) == text)) ||
      Mix.raise("--sort: must be one of #{Enum.join(Top.Table.keys(), ", ")}; got: #{text}")
  end

  defp option(:interval, ms) when ms > 0, do: ms
  defp option(:interval, ms), do: Mix.raise("--interval: must be more than 0 ms; got: #{ms}")

  defp cookie(nil), do: System.get_env("BUNDLEX_ERLANG_COOKIE")

  defp cookie(file) do
    case File.read(file) do
      {:ok, text} -> String.trim(text)
      {:error, reason} -> Mix.raise("#{file}: #{:file.format_error(reason)}")
    end
  end

  defp connect(name, cookie) do
    with {:error, text} <- name |> host() |> Distribution.ensure(), do: Mix.raise(text)
    node = String.to_atom(if name =~ "@", do: name, else: "#{name}@#{host(node())}")
    if cookie, do: Node.set_cookie(node, String.to_atom(cookie))

    unless Node.connect(node) do
      Mix.raise("cannot connect to #{node}: it does not run, or has another cookie")
    end

    node
  end

  defp host(name) do
    case String.split("#{name}", "@") do
      [_alive, host] -> host
      _none -> nil
    end
  end
end
