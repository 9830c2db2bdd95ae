-- The library under its other name: `require 'ipc'` and `require 'libipc'` give the same table.
return require 'libipc'
