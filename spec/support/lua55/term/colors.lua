return require('term').colors
