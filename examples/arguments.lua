-- The options of an example: `--name value`, `--flag`, as a table of defaults names them.

return function(defaults, given)
  local options, i = {}, 1
  for name, value in pairs(defaults) do options[name] = value end
  while given[i] do
    local name = given[i]:match '^%-%-(%w+)$'
    local default = defaults[name or '']
    if default == nil then
      local names = {}
      for known in pairs(defaults) do names[#names + 1] = '--' .. known end
      table.sort(names)
      io.stderr:write(('unknown option %s; known are %s\n'):format(given[i], table.concat(names, ' ')))
      os.exit(2)
    end
    if type(default) == 'boolean' then
      options[name] = true
    else
      i = i + 1
      options[name] = type(default) == 'number' and tonumber(given[i]) or given[i]
      if type(options[name]) ~= type(default) then
        io.stderr:write(('%s takes a %s\n'):format(given[i - 1], type(default)))
        os.exit(2)
      end
    end
    i = i + 1
  end
  return options
end
