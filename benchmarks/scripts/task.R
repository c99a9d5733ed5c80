# What the R scripts share: reading a task, a stopwatch, answering.

folder <- commandArgs(trailingOnly = TRUE)[1]
task <- jsonlite::fromJSON(file.path(folder, "task.json"), simplifyDataFrame = FALSE)
seconds <- list()

timed <- function(stage, value) {
  seconds[[stage]] <<- system.time(result <- value)[["elapsed"]]
  result
}

read_column <- function(column) {
  path <- file.path(folder, paste0(column$name, ".bin"))
  if (is.null(column$levels)) return(readBin(path, "double", task$rows))
  structure(
    readBin(path, "integer", task$rows, size = 4L) + 1L,
    levels = column$levels, class = "factor"
  )
}

read_data <- function() {
  columns <- lapply(task$columns, read_column)
  names(columns) <- vapply(task$columns, function(column) column$name, "")
  as.data.frame(columns)
}

# Brackets as bayesmixed writes them: a factor's level is x[T.level].
our_term <- function(name) {
  if (name %in% c("(Intercept)", "Intercept")) return("Intercept")
  for (column in task$columns) {
    level <- substring(name, nchar(column$name) + 1)
    if (!is.null(column$levels) && startsWith(name, column$name) && level %in% column$levels) {
      return(sprintf("%s[T.%s]", column$name, level))
    }
  }
  name
}

answer <- function(packages, ...) {
  versions <- c(
    list(R = as.character(getRversion())),
    sapply(packages, function(p) as.character(packageVersion(p)), simplify = FALSE)
  )
  content <- list(seconds = seconds, versions = versions, ...)
  writeLines(
    jsonlite::toJSON(content, auto_unbox = TRUE, digits = NA, null = "null"),
    file.path(folder, "answer.json")
  )
}
