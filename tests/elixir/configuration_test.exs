defmodule Lunode.ConfigurationTest do
  @moduledoc "The file lunode.lua: what it may say of handlers, and what it says when it is wrong."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Lunode.Test.OS, except: [script: 2]

  # What `lunode check` says of a folder with the configuration.
  defp check(configuration, files \\ %{}) do
    folder = folder(Map.put(files, "lunode.lua", "return { #{configuration} }"))
    {said, status} = System.cmd(Lunode.Program.path(), ["check", folder], stderr_to_stdout: true)
    {status, String.replace(said, folder <> "/", "")}
  end

  test "all that may be said of a handler, a pattern, and the node" do
    assert check(
             """
             workers = 2, untrusted = "unjailed", watch = true, max_frame = "16M",
             handlers = {
               counter = { trust = "full", on_failure = "stop", limits = { mailbox = 5 } },
               elsewhere = { path = "counter.lua", trust = "none", isolation = "own" },
               not_here_yet = { limits = { memory = 1048576, time = 20 } },
               ["tenant_*"] = {
                 trust = "none",
                 isolation = "shared",
                 limits = { memory = "32M", time = "50ms", deadline = "1s", mailbox = 1000,
                            message = "1M", atoms = 0 },
                 allow = { send = { "audit", "log_*" }, rpc = { "Elixir.MyApp.Api.*" } },
               },
             }
             """,
             %{"counter.lua" => echo(), "tenant_1.lua" => echo()}
           ) == {0, ""}
  end

  describe "a value that is wrong is named, with its file and what is expected:" do
    for {option, expected} <- [
          {"limits = 5", "limits: a table expected, got number"},
          {"limits = { 5 }",
           "limits.?: unknown option; known: memory, time, deadline, mailbox, message, atoms"},
          {"limits = { memroy = 5 }", "limits.memroy: unknown option; known: memory,"},
          {"limits = { memory = 0 }",
           "limits.memory: a size such as 1048576 or \"256M\" expected"},
          {"limits = { memory = -1 }", "limits.memory: a size"},
          {"limits = { memory = '32MB' }", "limits.memory: a size"},
          {"limits = { memory = '4G' }", "limits.memory: a size"},
          {"limits = { memory = '99999999999999999999G' }", "limits.memory: a size"},
          {"limits = { memory = 1.5 }", "limits.memory: a size"},
          {"limits = { message = 'M' }", "limits.message: a size"},
          {"limits = { message = '' }", "limits.message: a size"},
          {"limits = { time = '50' .. 'M' }", "limits.time: a time such as 500 (milliseconds)"},
          {"limits = { time = '2d' }", "limits.time: a time"},
          {"limits = { deadline = '-1s' }", "limits.deadline: a time"},
          {"limits = { deadline = '1500m' }", "limits.deadline: a time"},
          {"limits = { mailbox = '10' }", "limits.mailbox: a number of messages from 1"},
          {"limits = { atoms = -1 }", "limits.atoms: a number of atoms from 0"},
          {"trust = 'half'", "trust: full or none expected"},
          {"trust = true", "trust: full or none expected"},
          {"isolation = 'mine'", "isolation: own or shared expected"},
          {"allow = 'audit'", "allow: a table expected, got string"},
          {"allow = { 'audit' }", "allow.?: unknown option; known: send, rpc"},
          {"allow = { call = {} }", "allow.call: unknown option; known: send, rpc"},
          {"allow = { send = 'audit' }", "allow.send: a list of texts expected, got string"},
          {"allow = { send = { 'audit', 5 } }", "allow.send[2]: a text expected, got number"},
          {"allow = { send = { to = 'audit' } }", "allow.send[1]: a text expected, got nil"},
          {"allow = { send = { '' } }", "allow.send[1]: a pattern has one character at least"},
          {"allow = { rpc = { 'erlang' } }", "allow.rpc[1]: Module.function expected"},
          {"path = 'counter.lua'", "path: a name with * stands for several handlers"},
          {"on_failure = 'stop'", "on_failure: a name with * stands for several handlers"},
          {"memory = '32M'", "memory: unknown option; known: path on_failure trust isolation"}
        ] do
      test option do
        assert {1, said} = check("handlers = { ['tenant_*'] = { #{unquote(option)} } }")
        assert String.starts_with?(said, "lunode.lua: handlers.tenant_*." <> unquote(expected))
      end
    end

    for {option, expected} <- [
          {"workers = 0", "workers: a number of workers from 1 to 1024 expected"},
          {"workers = 'all'", "workers: a number of workers from 1 to 1024 expected"},
          {"untrusted = true", "untrusted: \"jailed\" or \"unjailed\" expected"},
          {"max_frame = '1T'", "max_frame: a size such as"},
          {"watch = 1", "watch: true or false expected, got number"},
          {"handlers = { ['a b*'] = {} }", "handlers: a handler's name has letters"},
          {"handlers = { erpc = {} }", "handlers: the name erpc is reserved"},
          {"handlers = { x = { on_failure = 'stop' } }", "handlers.x.on_failure: no such script"}
        ] do
      test option do
        assert {1, said} = check(unquote(option))
        assert String.starts_with?(said, "lunode.lua: " <> unquote(expected))
      end
    end
  end

  describe "a file" do
    test "is trusted, and what only others have is refused unless it is said not to be" do
      for option <- ["limits = { memory = '1M' }", "allow = { send = {} }", "isolation = 'own'"],
          name <- ["['tenant_*']", "tenant_1"],
          trust <- ["", "trust = 'full', "] do
        {status, said} =
          check("handlers = { #{name} = { #{trust}#{option} } }", %{"tenant_1.lua" => echo()})

        assert status == 1

        assert said =~
                 ~r/\Alunode.lua: the file of the handler tenant_1: handlers\.tenant_(\*|1)\./

        assert said =~ "only for a script that is not trusted"
      end
    end

    test "that is not trusted can't stop the node" do
      handler = "handlers = { tenant = { trust = 'none', on_failure = 'stop' } }"
      assert {1, said} = check(handler, %{"tenant.lua" => echo()})
      assert said =~ "handlers.tenant.on_failure: a script that is not trusted cannot stop"
    end

    test "that comes later is under the same rules" do
      folder =
        folder(%{
          "lunode.lua" => "return { handlers = { ['tenant_*'] = { limits = { time = 5 } } } }"
        })

      lua = start_supervised!({Lunode, handlers: folder})

      log =
        capture_log(fn ->
          File.write!(Path.join(folder, "tenant_1.lua"), echo())
          File.write!(Path.join(folder, "other.lua"), echo())
          eventually(fn -> match?([%{name: :other}], Lunode.handlers(lua)) end)
          # One that was to be loaded would be by now.
          Lunode.eval(lua, nil, "erl.sleep(500)")
          assert [%{name: :other}] = Lunode.handlers(lua)
          stop_supervised!(Lunode)
        end)

      assert log =~ "handlers.tenant_*.limits.time: only for a script that is not trusted"
    end
  end
end
